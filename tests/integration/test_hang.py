"""A trainer that gives no sign of life: its stacks are kept, it is restarted, and what hangs for ever is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import Machine, final_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
HANGS_ONCE = """
import time
import supervisor
run = supervisor.attach()
def wait_for_ever():
    time.sleep(10_000)
for step in run.steps(60):
    run.log(value=step)
    time.sleep(0.02)
    if step == 30 and run.attempt == 1:
        wait_for_ever()
"""
STOPS_ITSELF = """
import os, signal, supervisor
run = supervisor.attach()
for step in run.steps(10):
    if run.attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "hanging.py"
        path.write_text(text)
        return path

    return write


def test_a_hung_trainer_shows_where_and_goes_on(machine: Machine, store: Path, script: Callable[[str], Path]) -> None:
    turn = machine.start(script(HANGS_ONCE), "--hang-after", "2s", "--save-every", "100ms")
    assert turn.wait() == 0, turn.text
    assert "no sign of life from the trainer in its section 'step'" in turn.text
    assert "in wait_for_ever" in turn.text
    assert "the trainer gave no sign of life for too long and was ended" in turn.text
    assert "(attempt 2)" in turn.text
    kept = b"".join(path.read_bytes() for path in sorted((store / "hanging").glob("e*/output-*.log")))
    assert b"in wait_for_ever" in kept
    assert [row["step"] for row in final_state(store, "hanging")["log"]] == list(range(60))


def test_a_stopped_trainer_is_killed_and_restarted(machine: Machine, script: Callable[[str], Path]) -> None:
    turn = machine.start(script(STOPS_ITSELF), "--hang-after", "1s")
    assert turn.wait() == 0, turn.text
    assert "(attempt 2)" in turn.text


def test_a_script_that_always_hangs_is_given_up(machine: Machine, script: Callable[[str], Path]) -> None:
    turn = machine.start(
        script(HANGS_ONCE.replace("and run.attempt == 1", "").replace("== 30", "== 0")),
        "--hang-after", "1s", "--max-restarts", "1",
    )  # fmt: skip
    assert turn.wait() == 93, turn.text
