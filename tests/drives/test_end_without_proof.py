"""A machine whose supervisor and trainer die after the last manifest is written, and before the drive has uploaded it.

The next start on that machine has nothing to train; its end waits for the proof of what it goes on from all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import until
from tests.drives import told
from tests.drives.fake_drive import FakeDrive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine, Turn

pytestmark = pytest.mark.slow
STEPS = 30


@pytest.fixture
def cut(new_drive: Callable[..., Any], new_machine: Callable[[Path], Machine]) -> tuple[FakeDrive, Machine]:
    """Return a drive that uploads nothing more, and the machine on which all died with the last manifest not uploaded."""
    drive = new_drive(FakeDrive, latency_s=1.0)
    machine = new_machine(drive.root / "supervisor")
    turn = told.begin(machine, steps=STEPS, save_every="1h")
    until(lambda: list(drive.root.glob("supervisor/*/e*/step-*/manifest-*.json")))
    turn.kill("both")
    drive.set(uploads=False)
    assert not list(drive.uploaded.glob("supervisor/*/e*/step-*/manifest-*.json"))
    return drive, machine


def goes_on(machine: Machine, **environ: str) -> Turn:
    return told.begin(machine, steps=STEPS, save_every="1h", environ=environ)


def test_the_end_waits_for_the_proof_of_what_a_dead_session_wrote(cut, uninterrupted) -> None:
    drive, machine = cut
    turn = goes_on(machine)
    until(lambda: told.records(turn, "Unconfirmed"))
    until(lambda: any("waiting at most" in words for words in told.words(turn)))
    assert turn.running
    drive.set(uploads=True, latency_s=0.02)
    assert turn.wait() == 0, turn.text
    assert told.restored(turn) == [(1, STEPS)]
    assert told.safe(turn) == [(1, STEPS)], "what is safe is the dead session's checkpoint"
    assert told.same(told.in_the_cloud(drive), uninterrupted(STEPS))


def test_without_the_proof_it_is_no_success(cut) -> None:
    drive, machine = cut
    turn = goes_on(machine, HASTY_UPLOAD_WAIT_S="2")
    assert turn.wait() == 1, turn.text
    assert not list(drive.root.glob("supervisor/*/e*/end-succeeded*.json"))
    assert "is not known to be safe" in turn.text
    assert "keep this machine until it is uploaded" in turn.text


def test_a_fresh_machine_does_not_call_finished_what_never_arrived(cut, new_drive, new_machine, uninterrupted) -> None:
    """As written by a version that did not wait: the record of the end is there, and the manifest is not."""
    drive, _ = cut
    [session] = drive.uploaded.glob(f"supervisor/{told.RUN}/e*")
    (session / "end-succeeded.json").write_text(f'{{"reason": "succeeded", "exit_code": 0, "step": {STEPS}}}')
    other = new_drive(FakeDrive, cloud=drive.cloud)
    turn = told.begin(new_machine(other.root / "supervisor"), steps=STEPS)
    assert turn.wait() == 0, turn.text
    wanted = f"this run had finished, but step {STEPS}, its last checkpoint, is not in the store"
    assert wanted in told.words(turn, "warning")
    assert told.same(told.in_the_cloud(other), uninterrupted(STEPS))
