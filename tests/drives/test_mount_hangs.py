"""The drive hangs (its process is stopped) at each phase: training, `status`, `stop` and signals go on meanwhile.

I14: a hung mount never blocks training, signals, status or exit beyond its deadline. I2, I18: nothing is lost by it.
"""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from tests.drives import told
from tests.drives.fake_drive import FakeDrive
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from benchmarks.machines import Turn
    from tests.drives.drive import Drive

pytestmark = pytest.mark.slow
STEPS = 200
HANG_S = 4.0
PATIENCE_S = "3"  # shorter than the hang
VERB_S_MAX = 60.0  # their deadlines on a drive that hangs, with room for a busy machine
kinds = pytest.mark.parametrize("kind", [FakeDrive, RcloneDrive], ids=["fake", "rclone"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASTY_PATIENCE_S", PATIENCE_S)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait long for its last checkpoint to be proved."""
    monkeypatch.setenv("HASTY_DARK_WAIT_S", "5")


@kinds
@pytest.mark.usefixtures("impatient")
def test_while_it_trains(new_drive, new_machine, uninterrupted, kind) -> None:
    drive = new_drive(kind)
    turn = told.begin(new_machine(drive.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    hangs_while_training_goes_on(turn, drive)
    ends_well(turn, drive, uninterrupted)


@pytest.mark.parametrize("phase", ["claims", "restores"])
def test_for_a_moment_before_it_trains(fake, new_machine, uninterrupted, phase: str) -> None:
    turn, command, safe = _hanging(fake, new_machine, phase)
    turn.until(lambda: told.records(turn, command))
    time.sleep(1.0)  # because that is how long it hangs
    fake.set(hang=[])
    ends_well(turn, fake, uninterrupted, steps=100)
    assert told.restored(turn)[0] >= safe


@pytest.mark.parametrize("phase", ["claims", "restores"])
def test_for_longer_than_patience_lasts_before_it_trains(fake, new_machine, uninterrupted, phase: str) -> None:
    turn, _, safe = _hanging(fake, new_machine, phase, HASTY_PATIENCE_S=PATIENCE_S)
    assert turn.wait() == 4, turn.text
    what, hint = told.last_lines(turn)
    assert "has not answered for" in what
    assert "umount -l" in hint or "try again when the store answers" in hint
    assert told.records(turn, "Launch") == []
    fake.set(hang=[])
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=100)
    ends_well(turn, fake, uninterrupted, steps=100)
    assert told.restored(turn)[0] >= safe


@pytest.mark.usefixtures("impatient")
def test_while_it_uploads(fake, new_machine, uninterrupted) -> None:
    fake.set(hang=["write:*/step-*"])
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.records(turn, "Publish"))
    hangs_while_training_goes_on(turn, fake)
    fake.set(hang=[])
    ends_well(turn, fake, uninterrupted)


@pytest.mark.usefixtures("impatient")
def test_while_it_waits_for_the_confirmation(fake, new_machine, uninterrupted) -> None:
    fake.set(uploads=False)
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.records(turn, "Submitted"))
    fake.set(hang=["xattr"], uploads=True)
    hangs_while_training_goes_on(turn, fake)
    fake.set(hang=[])
    ends_well(turn, fake, uninterrupted)


@pytest.mark.usefixtures("impatient")
def test_at_the_end(fake, new_machine, uninterrupted) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=50)
    turn.until(lambda: told.records(turn, "Launched"))
    fake.set(hang=["xattr", "write"])
    turn.until(lambda: told.records(turn, "TrainerExited"))
    time.sleep(HANG_S)  # because that is how long it hangs
    assert turn.running
    fake.set(hang=[])
    ends_well(turn, fake, uninterrupted, steps=50)


@kinds
@pytest.mark.usefixtures("impatient", "hurried")
def test_status_and_stop_answer_while_the_drive_hangs(new_drive, new_machine, kind) -> None:
    drive = new_drive(kind)
    machine = new_machine(drive.root / "supervisor")
    turn = told.begin(machine, steps=100_000)
    turn.until(lambda: told.safe(turn))
    drive.stop()
    before, began_s = told.step(turn), time.perf_counter()
    status = machine.run("status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["step"] >= before
    assert time.perf_counter() - began_s < VERB_S_MAX
    stop = machine.run("stop")
    assert stop.returncode == 0, stop.stderr
    assert turn.wait() == 143, turn.text
    assert time.perf_counter() - began_s < VERB_S_MAX
    newest = told.safe(turn)[-1]
    assert f"safe in {json.loads(status.stdout)['place']}: step {newest[1]}," in stop.stdout
    assert told.step(turn) > before
    drive.go()
    until(lambda: not told.left_behind(machine))


@kinds
@pytest.mark.usefixtures("impatient", "hurried")
def test_ctrl_c_twice_ends_at_once_while_the_drive_hangs(new_drive, new_machine, kind) -> None:
    drive = new_drive(kind)
    machine = new_machine(drive.root / "supervisor")
    turn = told.begin(machine, steps=100_000)
    turn.until(lambda: told.safe(turn))
    drive.stop()
    turn.signal(signal.SIGINT)
    turn.until(lambda: told.records(turn, "TrainerExited"))
    turn.signal(signal.SIGINT)
    assert turn.wait() == 130, turn.text
    assert turn.trainer() is None
    drive.go()
    until(lambda: not told.left_behind(machine))


def _hanging(fake: FakeDrive, new_machine, phase: str, **environ: str) -> tuple[Turn, str, told.Id]:
    """Start where the claim, or the restoring of an earlier machine's checkpoint, hangs; return what is safe before it."""
    if phase == "claims":
        fake.set(hang=["create:*/claim.json"])
        return told.begin(new_machine(fake.root / "supervisor"), steps=100, environ=environ), "WriteClaim", (0, 0)
    first = told.begin(
        new_machine(fake.root / "supervisor"), steps=100, step_ms=200
    )  # so that it is killed in the middle
    first.until(lambda: told.safe(first))
    first.kill("both")
    fake.set(hang=["open:*/state*", "read:*/state*"])
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=100, environ=environ)
    return turn, "Restore", told.safe(first)[-1]


def hangs_while_training_goes_on(turn: Turn, drive: Drive) -> None:
    """Stop everything for a while; steps are made all the time, and reach a staged checkpoint."""
    drive.stop()
    before, end_s = told.step(turn), time.perf_counter() + HANG_S
    turn.until(lambda: time.perf_counter() > end_s)
    turn.until(lambda: told.step(turn) > before + 20 or told.records(turn, "TrainerExited"))
    drive.go()


def ends_well(turn: Turn, drive: Drive, uninterrupted, *, steps: int = STEPS) -> None:
    assert turn.wait() == 0, turn.text
    drive.reclaim()
    assert told.safe(turn)[-1][1] == steps
    assert told.same(told.in_the_cloud(drive), uninterrupted(steps))
