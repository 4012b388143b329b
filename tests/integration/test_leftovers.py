"""What dead sessions leave on this machine is used, and gone once the run is finished."""

from __future__ import annotations

import pytest

from benchmarks.machines import TOY, Machine

pytestmark = pytest.mark.slow


def test_a_finished_run_leaves_nothing_of_its_dead_sessions_on_this_machine(tmp_path) -> None:
    machine = Machine(tmp_path / "machine", tmp_path / "store")
    first = machine.start(TOY, "--save-every", "1s", arguments=("--steps", "400"))
    first.until("safe: step")
    first.kill("supervisor")
    first.wait()
    second = machine.start(TOY, "--save-every", "1s", arguments=("--steps", "400"))
    assert second.wait() == 0, second.text
    assert not [path for path in machine.local.rglob("step-*") if path.is_dir()]
