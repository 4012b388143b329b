"""The mount dies, is unmounted, or is replaced by a plain folder, at each phase of a session.

I13: nothing is ever written where the mount was. I14, I15: training goes on, with words said once, and when it is mounted
again the uploads go on; before the training it is two lines and exit code 4. I2, I18: the run ends as if nothing had been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from tests.drives import told
from tests.drives.fake_drive import FakeDrive
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.machines import Turn
    from tests.drives.drive import Drive

pytestmark = pytest.mark.slow
STEPS = 300
HARMS: dict[str, Callable[[Drive], None]] = {
    "dead": lambda drive: drive.die(),
    "unmounted": lambda drive: drive.detach(),
    "replaced": lambda drive: drive.kill(),
}
harmed = pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
killed = pytest.mark.parametrize("harm", [HARMS["dead"], HARMS["replaced"]], ids=["dead", "replaced"])


@harmed
def test_while_it_trains(fake, new_machine, uninterrupted, harm) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    harm(fake)
    goes_on_until_it_is_noticed(turn, fake)
    ends_well(turn, fake, uninterrupted)


@killed
def test_while_it_uploads(fake, new_machine, uninterrupted, harm) -> None:
    fake.set(hang=["write:*/step-*"])
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    until(lambda: fake.state()["counts"].get("write") and told.records(turn, "Publish"))
    harm(fake)
    goes_on_until_it_is_noticed(turn, fake)
    fake.switches["hang"] = []
    ends_well(turn, fake, uninterrupted)


@harmed
def test_while_it_waits_for_the_confirmation(fake, new_machine, uninterrupted, harm) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.records(turn, "Launched"))
    fake.drain()
    fake.set(uploads=False)
    turn.until(lambda: told.records(turn, "Submitted"))
    harm(fake)
    goes_on_until_it_is_noticed(turn, fake)
    fake.reclaim()  # the cache is lost: what was submitted never comes to the cloud by itself
    fake.switches["uploads"] = True
    ends_well(turn, fake, uninterrupted)


@killed
def test_at_the_end(fake, new_machine, uninterrupted, harm) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=100)
    turn.until(lambda: told.records(turn, "Launched"))
    fake.set(uploads=False)
    turn.until(lambda: told.records(turn, "TrainerExited"))
    harm(fake)
    turn.until(lambda: any(says_away(turn)))
    assert turn.running
    fake.switches["uploads"] = True
    ends_well(turn, fake, uninterrupted, steps=100)


@killed
def test_while_it_restores(fake, new_machine, uninterrupted, harm) -> None:
    first = told.begin(
        new_machine(fake.root / "supervisor"), steps=100, step_ms=200
    )  # so that it is killed in the middle
    first.until(lambda: told.safe(first))
    first.kill("both")
    fake.set(hang=["open:*/state*", "read:*/state*"])
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=100)
    turn.until(lambda: told.records(turn, "Restore"))
    harm(fake)
    fake.switches["hang"] = []
    stops_with_two_lines(turn)
    fake.mount()
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=100)
    assert turn.wait() == 0, turn.text
    assert told.restored(turn) >= told.safe(first)[-1:]
    fake.reclaim()
    assert told.same(told.in_the_cloud(fake), uninterrupted(100))


@pytest.mark.parametrize("kind", [FakeDrive, RcloneDrive], ids=["fake", "rclone"])
def test_before_the_start(new_drive, new_machine, kind) -> None:
    drive = new_drive(kind)
    drive.die()
    done = new_machine(drive.root / "supervisor").run("start", str(told.TOY), "--settle", "1s", "--no-install")
    assert done.returncode == 4, done.stdout + done.stderr
    what, hint = done.stderr.splitlines()
    assert str(drive.mountpoint) in what
    assert "mount it again" in hint
    drive.detach()
    assert drive.below == []


@pytest.mark.parametrize("kind", [FakeDrive, RcloneDrive], ids=["fake", "rclone"])
def test_before_the_start_on_a_machine_that_knows_the_drive(new_drive, new_machine, kind) -> None:
    drive = new_drive(kind)
    machine = new_machine(drive.root / "supervisor")
    turn = told.begin(machine, steps=100_000)
    turn.until(lambda: told.records(turn, "Launched"))
    turn.kill("both")
    drive.kill()
    done = machine.run("start", str(told.TOY), "--no-install")
    assert done.returncode == 4, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert drive.below == []


def test_a_real_drive_that_died_comes_back(rclone, new_machine, uninterrupted) -> None:
    turn = told.begin(new_machine(rclone.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    rclone.reclaim()
    goes_on_until_it_is_noticed(turn, rclone)
    ends_well(turn, rclone, uninterrupted)


def goes_on_until_it_is_noticed(turn: Turn, drive: Drive) -> None:
    """The trainer makes steps all the while, and what happened is said, with what to do."""
    before = told.step(turn)
    turn.until(lambda: any(says_away(turn)), 20)
    turn.until(lambda: told.step(turn) > before + 20 or told.records(turn, "TrainerExited"))
    assert any("training goes on" in hint for hint in told.hints(turn))


def ends_well(turn: Turn, drive: Drive, uninterrupted, *, steps: int = STEPS) -> None:
    """Nothing was written below the mount; mounted again, the run ends DURABLE and the same, whatever becomes of the machine."""
    drive.kill()
    assert drive.below == []
    drive.mount()
    assert turn.wait() == 0, turn.text
    said = told.words(turn, "warning")
    assert len(said) == len(set(said)), said
    assert len(says_away(turn)) == 1, said
    drive.reclaim()
    assert drive.below == []
    assert told.safe(turn)[-1][1] == steps
    assert told.same(told.in_the_cloud(drive), uninterrupted(steps))


def stops_with_two_lines(turn: Turn) -> None:
    assert turn.wait() == 4, turn.text
    what, hint = told.last_lines(turn)
    assert "store" in what
    assert hint.strip()


def says_away(turn: Turn) -> list[str]:
    return [words for words in told.words(turn, "warning") if "does not answer" in words]
