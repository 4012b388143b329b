"""Quotas that speak and quotas that do not, the trash, the cache's disk, the local disk: all of them full.

I19: the last DURABLE stays intact and the training goes on or stops cleanly. I4: nothing is called safe that is not.
"""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, until
from supervisor.stores.drive import EMPTIED_BYTES_MIN
from tests.drives import told
from tests.drives.fake_drive import FakeDrive

if TYPE_CHECKING:
    from benchmarks.machines import Machine, Turn
    from tests.drives.drive import Drive

pytestmark = pytest.mark.slow
STEPS = 200


def test_a_silent_quota_is_told_as_it_is(fake, new_machine) -> None:
    machine = new_machine(fake.root / "supervisor")
    turn = _in_plain_words(machine, fake)
    assert turn.wait() == 1, turn.text
    what, hint = [line for line in turn.text.splitlines() if line.startswith(("error:", "  try:"))]
    assert "is not known to be safe" in what
    assert "keep this machine until it is uploaded" in hint
    _nothing_else_is_called_safe(turn, fake)
    status = machine.run("status", "--json")
    assert json.loads(status.stdout)["checkpoints"]["durable"] == told.in_the_cloud(fake)["step"]


def test_ctrl_c_under_a_silent_quota_says_what_is_not_uploaded(fake, new_machine) -> None:
    machine = new_machine(fake.root / "supervisor")
    turn = _in_plain_words(machine, fake, upload_wait_s=300)  # so long that the two signals come within it
    turn.until("waiting at most")
    for answer in ("once more ends it at once", "topped by Ctrl-C"):
        turn.signal(signal.SIGINT)
        turn.until(answer)
    assert turn.wait() == 130, turn.text
    end = turn.text[turn.text.rindex("CANCELLED") :]
    behind = f"step {STEPS} is only on "  # where an earlier save was on its way when the last one came
    assert "is written but Drive has not uploaded it" in end or behind in end
    _nothing_else_is_called_safe(turn, fake)


def test_what_a_silent_quota_kept_back_is_sent_when_there_is_room(fake, new_machine, uninterrupted) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    fake.set(quota_bytes=fake.state()["used_bytes"])
    turn.until(lambda: told.records(turn, "TrainerExited"))
    turn.until(lambda: told.records(turn, "Unconfirmed"))
    assert told.safe(turn)[-1][1] < STEPS
    fake.set(quota_bytes=None)
    ends_well(turn, fake, uninterrupted)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_loud_quota_stops_uploads_and_not_the_training(fake, new_machine, uninterrupted, error: str) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    fake.set(write_error=error)
    turn.until(lambda: told.records(turn, "PublishFailed"))
    before = told.step(turn)
    turn.until(lambda: told.step(turn) > before + 20 or told.records(turn, "TrainerExited"))
    assert any("could not be put into the store" in words for words in told.words(turn, "warning"))
    newest = told.safe(turn)[-1]
    assert told.in_the_cloud(fake)["step"] == newest[1]
    fake.set(write_error="")
    ends_well(turn, fake, uninterrupted)


def test_the_trash_does_not_eat_the_quota(fake, new_machine, uninterrupted) -> None:
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=STEPS, options=("--keep-last", "2"))
    ends_well(turn, fake, uninterrupted)
    assert len(told.safe(turn)) > 2
    assert any(each["removed"] for each in told.records(turn, "Retained"))
    assert list(fake.trash.iterdir())
    sizes = [path.stat().st_size for path in fake.trash.rglob("*") if path.is_file()]
    assert 0 in sizes
    assert max(sizes) < EMPTIED_BYTES_MIN


# Without rclone, whose writes hang for good when its cache disk is full: that is the hang of test_mount_hangs.
@pytest.mark.parametrize("kind", [FakeDrive], ids=["fake"])
def test_a_full_cache_disk_of_the_drive_passes(new_drive, new_disk, new_machine, uninterrupted, kind) -> None:
    disk = new_disk(40_000_000, "drive-1/cache")
    drive = new_drive(kind)
    turn = told.begin(new_machine(drive.root / "supervisor"), steps=STEPS)
    turn.until(lambda: told.safe(turn))
    ballast = disk.fill()
    turn.until(lambda: told.records(turn, "PublishFailed"))
    newest = told.safe(turn)[-1]
    assert told.in_the_cloud(drive)["step"] == newest[1]
    ballast.unlink()
    ends_well(turn, drive, uninterrupted)


def test_a_full_local_disk_passes(fake, new_disk, new_machine, uninterrupted) -> None:
    steps = 800
    disk = new_disk(40_000_000, "machine-1/local")
    turn = told.begin(new_machine(fake.root / "supervisor"), steps=steps)
    turn.until(lambda: told.safe(turn))
    ballast = disk.fill()
    turn.until(lambda: any("save at step" in words for words in told.words(turn, "warning")))
    before = told.step(turn)
    turn.until(lambda: told.step(turn) > before + 20)
    assert told.in_the_cloud(fake)["step"] >= told.safe(turn)[0][1]
    ballast.unlink()
    ends_well(turn, fake, uninterrupted, steps=steps)


def _in_plain_words(machine: Machine, fake: FakeDrive, upload_wait_s: int = 4) -> Turn:
    """Run to where nothing is uploaded any more, as people see it."""
    options = ("--settle", "1s", "--no-install", "--save-every", "1s")
    arguments = ("--steps", str(STEPS), "--step-ms", "10")
    turn = machine.start(TOY, *options, arguments=arguments, environ={"HASTY_UPLOAD_WAIT_S": str(upload_wait_s)})
    until(lambda: list(fake.uploaded.rglob("manifest*")))
    fake.drain()
    fake.set(uploads=False)
    return turn


def _nothing_else_is_called_safe(turn: Turn, fake: FakeDrive) -> None:
    newest = told.in_the_cloud(fake)["step"]
    called = {int(step.replace(",", "")) for step in re.findall(r"safe in Drive: step ([\d,]+)\b", turn.text)}
    assert max(called, default=0) <= newest < STEPS


def ends_well(turn: Turn, drive: Drive, uninterrupted, *, steps: int = STEPS) -> None:
    assert turn.wait() == 0, turn.text
    drive.reclaim()
    assert told.safe(turn)[-1][1] == steps
    assert told.same(told.in_the_cloud(drive), uninterrupted(steps))
