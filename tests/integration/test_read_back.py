"""Did it really resume? Scripts that nobody changed, killed with their supervisor and started again on a blank machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine, Turn

pytestmark = [pytest.mark.slow, pytest.mark.torch]

LOOP = """
import os, subprocess, sys, time, torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
first, path = 0, "out/ckpt.pt"
os.makedirs("out", exist_ok=True)
def load():
    kept = torch.load(path)
    model.load_state_dict(kept["model"])
    return kept["step"]
{begins}
print("begins at", first, flush=True)
for step in range(first, 60):
    optimizer.zero_grad()
    model(torch.ones(8, 4)).pow(2).mean().backward()
    optimizer.step()
    {after_step}
    if (step + 1) % 20 == 0:
        torch.save({{"model": model.state_dict(), "step": step + 1}}, path)
    while step + 1 == 45 and os.path.exists("waits"):
        time.sleep(0.05)
"""
ANEW = "the script read nothing that was put back: it begins at its first step again"
BEGINS = {
    "reads": "if os.path.exists(path): first = load()",
    "never": "",
    "looks": "there = os.path.getsize(path) if os.path.exists(path) else 0; names = os.listdir('out')",
    "peeks": "first = torch.load(path)['step'] if os.path.exists(path) else 0",
    "child": (
        "code = 'import sys, torch; print(torch.load(sys.argv[1])[\"step\"])'\n"
        "if os.path.exists(path): first = int(subprocess.run([sys.executable, '-c', code, path], capture_output=True).stdout)"
    ),
    "jit": (
        "if os.path.exists('out/traced.pt'): torch.jit.load('out/traced.pt'); first = 40\n"
        "torch.jit.save(torch.jit.script(model), 'out/traced.pt')"
    ),
}


def twice(machines: Callable[[], Machine], script: Path, *options: str) -> tuple[Turn, Machine]:
    """Kill it and its supervisor when step 40 is safe, and return the turn in which a blank machine goes on."""
    first, second = machines(), machines()
    (first.work / "waits").touch()
    turn = first.start(script, "--no-install", *options)
    turn.until(lambda: _newest(first) == 40)
    turn.kill("both")
    again = second.start(script, "--no-install", *options)
    assert again.wait() == 0, again.text
    return again, second


def _newest(machine: Machine) -> int | None:
    told = machine.run("status", "--json")
    return json.loads(told.stdout)["checkpoints"]["durable"] if told.returncode == 0 else None


def status(machine: Machine) -> dict[str, object]:
    return dict(json.loads(machine.run("status", "--json").stdout))


@pytest.mark.parametrize("how", list(BEGINS))
def test_what_a_script_reads_of_its_files_is_what_it_goes_on_from(
    fresh_machine: Callable[[], Machine], tmp_path: Path, how: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(LOOP.format(begins=BEGINS[how], after_step=""))
    again, machine = twice(fresh_machine, script, *(("--watch", "out") if how == "jit" else ()))
    seen = status(machine)
    if how in {"never", "looks"}:
        assert "begins at 0" in again.text
        assert ANEW in again.text
        assert "to have it go on from them: this script has no known option to resume" in again.text
        assert seen["resumed"] is False
    else:
        assert "begins at 40" in again.text
        assert ANEW not in again.text
        assert "which was put back, before its first step: its steps are counted on from there" in again.text
        unseen = "no load_state_dict() was seen before that step" in again.text
        assert unseen == (how in {"child", "peeks"}), "what only looks into its file is not said to go on"
        assert seen["resumed"] is True
    assert seen["step"] == 60, "never more than it has done"
    assert "finished at step 60" in again.text
    assert seen["checkpoints"] == {"staged": 60, "submitted": 60, "durable": 60}


def test_what_is_read_only_after_the_first_step_is_no_resume(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    late = (
        "if step == 5 and not os.path.exists('waits'):\n"
        "        while ANEW not in open('../../said.txt').read(): time.sleep(0.05)\n"
        "        load()"
    )
    script.write_text(LOOP.format(begins=f"ANEW = {ANEW!r}", after_step=late))
    first, second = fresh_machine(), fresh_machine()
    (first.work / "waits").touch()
    turn = first.start(script, "--no-install")
    turn.until(lambda: _newest(first) == 40)
    turn.kill("both")
    (tmp_path / "said.txt").touch()
    again = second.start(script, "--no-install")
    again.until(ANEW)
    (tmp_path / "said.txt").write_text(ANEW)
    assert again.wait() == 0, again.text
    assert "'out/ckpt.pt', which was put back, only after its first step" in again.text
    assert "its steps are counted from 0" in again.text
    seen = status(second)
    assert seen["step"] == 60
    assert seen["resumed"] is None


FAILS = """
import time, torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
try:
    for step in range(1, 60):
        optimizer.zero_grad()
        model(torch.ones(8, 4)).pow(2).mean().backward()
        optimizer.step()
        if step == 31:
            raise ValueError("no batch 31")
finally:
    torch.save({"model": model.state_dict(), "step": step}, "last.pt")
    time.sleep(1.5)
"""


def test_a_script_that_begins_again_and_fails_at_the_same_place_is_not_tried_for_ever(
    machine: Machine, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(FAILS)
    done = machine.run("start", str(script), "--no-install")
    assert done.returncode == 93, done.stdout
    assert done.stdout.count("Traceback") == 2
    assert "the same twice, without a new step in between" in done.stderr
    assert status(machine)["checkpoints"]["durable"] == 31, "a save of the same steps is no new step"


def test_a_script_that_opens_its_file_and_trains_everything_again_is_not_tried_for_ever(
    machine: Machine, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    peeks = "import os, torch\nif os.path.exists('last.pt'): print('before:', torch.load('last.pt')['step'])\n"
    script.write_text(peeks + FAILS.replace("raise", "time.sleep(0.5); raise"))
    done = machine.run("start", str(script), "--no-install", "--max-restarts", "1")
    assert done.returncode == 93, done.stdout
    assert "before: 31" in done.stdout, done.stderr
    assert done.stdout.count("Traceback") == 2
    assert "2 attempts in a row made as many steps and ended like that" in done.stderr


BY_HAND = """
import os, time, torch
torch.manual_seed(0)
weight = torch.zeros(4, requires_grad=True)
for epoch in range(12):
    (weight - 1).pow(2).sum().backward()
    weight.data -= 0.1 * weight.grad
    weight.grad = None
    torch.save({"weight": weight.detach()}, "best.pt")
    while epoch + 1 == 6 and os.path.exists("waits"):
        time.sleep(0.05)
"""


def test_a_loop_without_an_optimizer_has_snapshots_and_no_steps(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(BY_HAND)
    first, second = fresh_machine(), fresh_machine()
    (first.work / "waits").touch()
    turn = first.start(script, "--no-install")
    turn.until(lambda: _newest(first) is not None)
    shown = first.run("status").stdout
    assert "safe: snapshot 1" in shown
    assert "step" not in shown.partition("next:")[0]
    turn.kill("both")
    again = second.start(script, "--no-install")
    assert again.wait() == 0, again.text
    assert ANEW in again.text
    assert "the script's files of snapshot 1 are here, verified" in again.text
    assert "The script finished · safe: snapshot" in again.text
    seen = status(second)
    assert seen["unit"] == "snapshot"
    assert seen["resumed"] is False
