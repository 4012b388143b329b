"""A fresh machine reads what others left on a drive that lies: EIO, twins, stale listings, files that are not there yet.

I5, I6, I7: one view, one choice; unreadable is never absent or invalid; step 0 never follows signs of earlier work.
I2, I3, I18: the choice never goes back, and the run ends as if nothing had been.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from tests.drives import told
from tests.drives.fake_drive import FakeDrive

if TYPE_CHECKING:
    from benchmarks.machines import Turn
    from tests.drives.drive import Drive

pytestmark = pytest.mark.slow
STEPS = 200


@pytest.fixture
def interrupted(fake, new_machine) -> told.Id:
    """A machine was taken away; the newest that it called safe."""
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: len(told.safe(turn)) > 1)
    turn.kill("both")
    fake.reclaim()
    fake.mount()
    return told.safe(turn)[-1]


def test_a_newest_checkpoint_that_cannot_be_read_for_a_while_is_tried_again(
    fake, new_machine, uninterrupted, interrupted: told.Id
) -> None:
    fake.set(read_errors={f"*/step-{interrupted[1]:09d}*/*": 2})
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.records(turn, "Launched"))
    assert set(fake.state()["switches"]["read_errors"].values()) == {0}
    ends_well(turn, fake, uninterrupted)
    assert told.restored(turn)[0] >= interrupted


@pytest.mark.parametrize("what", ["newest", "run.json", "manifest*"])
def test_what_can_never_be_read_stops_the_start_and_is_never_taken_for_absent(
    fake, new_machine, uninterrupted, interrupted: told.Id, what: str
) -> None:
    pattern = f"*/step-{interrupted[1]:09d}*/*" if what == "newest" else what
    fake.set(read_errors={pattern: -1})
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS, environ={"HASTY_PATIENCE_S": "2"})
    assert turn.wait() == 4, turn.text
    assert len(told.last_lines(turn)) == 2, told.last_lines(turn)
    assert told.restored(turn) == []
    assert told.records(turn, "Launch") == []
    fake.set(read_errors={})
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    ends_well(turn, fake, uninterrupted)
    assert told.restored(turn)[0] >= interrupted


def test_twins_of_everything_change_nothing(fake, new_machine, uninterrupted) -> None:
    fake.set(twin_chance=1.0)
    first = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    first.until(lambda: told.safe(first))
    first.kill("both")
    fake.reclaim()
    fake.mount()
    assert list(fake.root.rglob("* (1)*"))
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    ends_well(turn, fake, uninterrupted)
    assert told.restored(turn)[0] >= told.safe(first)[-1]


def test_a_stale_listing_is_waited_for(fake, new_drive, new_machine, uninterrupted) -> None:
    first = told.begin(new_machine(fake.root / "supervisor"), steps=100_000)
    first.until(lambda: told.safe(first) and told.step(first) > 500)
    first.kill("both")
    other = new_drive(FakeDrive, cloud=fake.cloud, stale_s=3.0)
    until((other.root / "supervisor" / told.RUN / "run.json").is_file)
    turn = told.begin(new_machine(other.root / "supervisor"), steps=100_000, options=("--settle", "4s"))
    turn.until(lambda: told.restored(turn))
    assert told.restored(turn)[0] >= told.safe(first)[-1]
    turn.kill("both")


@pytest.mark.parametrize("seed", range(2))
def test_files_that_are_empty_or_absent_when_the_machine_goes_are_passed_over(
    fake, new_machine, uninterrupted, seed: int
) -> None:
    chance = random.Random(seed)
    fake.set(empty_first=True, rate=chance.choice([300_000, 1_000_000]))
    safe = (0, 0)
    for _ in range(2):
        turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
        end_s = time.perf_counter() + chance.uniform(1.5, 5.0)
        until(lambda: not turn.running or time.perf_counter() > end_s)  # noqa: B023, because it is called at once
        turn.kill("both")
        fake.reclaim()
        fake.mount()
        assert all(each >= safe for each in told.restored(turn)), turn.text
        safe = max([safe, *told.safe(turn)])
    fake.set(empty_first=False, rate=None)
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    ends_well(turn, fake, uninterrupted)
    assert all(each >= safe for each in told.restored(turn)), "none where the machine before it had come to the end"


def ends_well(turn: Turn, drive: Drive, uninterrupted, *, steps: int = STEPS) -> None:
    assert turn.wait() == 0, turn.text
    drive.reclaim()
    assert told.in_the_cloud(drive)["step"] == steps
    assert told.same(told.in_the_cloud(drive), uninterrupted(steps))
