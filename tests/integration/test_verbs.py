"""The verbs on runs that really live: status, logs, stop, resume, checkpoints, rehearse."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine, Turn, final_state
from tests.machines.jobs import SLOW_TOY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

SAVES = ("--save-every", "300ms")

FORGETS = """
import sys, time
sys.path.insert(0, {folder!r})
from toy import Model
import random, supervisor
from supervisor.trainer.order import Order

random.seed(0)
model, order = Model(640), Order(length=1000, seed=0)
{planted}
for _ in run.steps(150):
    run.log(loss=model.train(next(order)))
    time.sleep(0.01)
"""


def live(machine: Machine) -> dict:
    told = machine.run("status", "--json")
    return json.loads(told.stdout) if told.returncode == 0 else {}


def running(machine: Machine, steps: int = 3000) -> Turn:
    """Start a toy and come back when something of it is safe."""
    turn = machine.start(TOY, *SAVES, arguments=["--steps", str(steps)])
    turn.until(lambda: (live(machine).get("checkpoints") or {}).get("durable"))
    return turn


def test_a_stop_from_another_process_saves_and_ends_within_its_answer(machine: Machine) -> None:
    turn = running(machine)
    told = machine.run("stop")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "asked session 1 to save and end" in told.stdout
    assert "session 1 ended: stopped on request" in told.stdout
    assert turn.wait() == 143
    seen = live(machine)
    assert seen["state"] == "CANCELLED"
    assert seen["checkpoints"]["durable"] == seen["step"]


def test_a_stop_from_another_machine_goes_through_the_store(fresh_machine: Callable[[], Machine]) -> None:
    here, there = fresh_machine(), fresh_machine()
    turn = running(here)
    assert there.run("stop", "toy").returncode == 0
    assert turn.wait() == 143


def test_a_stop_at_once_does_not_save(machine: Machine) -> None:
    turn = running(machine)
    told = machine.run("stop", "--now")
    assert "to end at once" in told.stdout
    assert turn.wait() == 143
    assert live(machine)["state"] == "CANCELLED"


def test_a_live_run_is_shown_by_its_own_machine(machine: Machine) -> None:
    turn = running(machine)
    seen = live(machine)
    assert seen["state"] == "RUNNING"
    assert seen["total_steps"] == 3000
    assert seen["steps_per_s"] > 0
    assert seen["next_save_in_s"] is not None
    words = machine.run("status").stdout
    assert "session 1 on this machine" in words
    assert "-m supervisor stop toy" in words
    rows = json.loads(machine.run("checkpoints", "--json").stdout)
    assert "DURABLE" in {row["state"] for row in rows}
    turn.end()


def test_a_killed_run_waits_for_its_next_machine_and_resumes_by_name_alone(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    first, second, held = fresh_machine(), fresh_machine(), {"HELD": str(tmp_path / "let-go")}
    words = (*SAVES, "--name", "toy", "--keep-last", "4")
    turn = first.start(SLOW_TOY, *words, arguments=["--steps", "200", "--step-ms", "5"], environ=held)
    turn.until(lambda: (live(first).get("checkpoints") or {}).get("durable"))
    turn.kill("both")
    assert live(second)["state"] == "PENDING"
    (tmp_path / "let-go").touch()
    told = second.run("resume", "--trust-store", **held)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "going on from step" in told.stdout
    assert live(second)["state"] == "SUCCEEDED"
    assert [row["step"] for row in final_state(second.store, "toy")["log"]] == list(range(200))
    claim = json.loads(max((second.store / "toy").glob("e0*/claim.json")).read_text())
    assert claim["options"]["keep_last"] == 4


def test_following_the_output_ends_with_the_run_and_prints_each_line_once(machine: Machine) -> None:
    script = machine.work / "prints.py"
    script.write_text(
        "import time\nfor number in range(30):\n    print('line', number)\n    time.sleep(0.05)\n", encoding="utf-8"
    )
    turn = machine.start(script)
    turn.until("line 3")
    told = machine.run("logs", "prints", "-f")
    assert turn.wait() == 0
    assert told.stdout.splitlines() == [f"line {number}" for number in range(30)]
    assert machine.run("logs", "prints").stdout == told.stdout


def test_watching_ends_when_the_run_does(machine: Machine) -> None:
    turn = machine.start(TOY, *SAVES, arguments=["--steps", "100"])
    turn.until(lambda: live(machine).get("step"))
    told = machine.run("status", "--watch", "--json")
    assert turn.wait() == 0
    states = [json.loads(line)["state"] for line in told.stdout.splitlines()]
    assert states[-1] == "SUCCEEDED"


def rehearse(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    machine = Machine(folder, folder / "unused")
    return subprocess.run(
        [sys.executable, "-m", "supervisor", "rehearse", *words], cwd=machine.work, env=machine.environ(),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def test_the_toy_resumes_bit_for_bit(tmp_path: Path) -> None:
    told = rehearse(tmp_path, str(TOY), "--", "--steps", "200")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "resume is bit-exact" in told.stdout
    assert not [each for each in (tmp_path / "local").rglob("*") if each.is_file()]


def test_the_first_steps_of_a_long_run_can_be_rehearsed(tmp_path: Path) -> None:
    told = rehearse(tmp_path, str(TOY), "--steps", "150", "--", "--steps", "1000000")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "compared at step 150" in told.stdout


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ("run = supervisor.attach(model=model)", "no data order is attached"),
        (
            "order.load_state_dict = lambda state: None\nrun = supervisor.attach(model=model, sampler=order)",
            "data order (sampler.position)",
        ),
    ],
    ids=["not attached", "not restored"],
)
def test_a_planted_fault_in_the_data_order_is_found(tmp_path: Path, planted: str, words: str) -> None:
    script = tmp_path / "forgets.py"
    script.write_text(FORGETS.format(folder=str(TOY.parent), planted=planted), encoding="utf-8")
    told = rehearse(tmp_path, str(script))
    assert told.returncode == 1, told.stdout + told.stderr
    assert "resume differs from step" in told.stdout
    assert words in told.stdout


def test_a_script_that_fails_by_itself_is_no_matter_of_resuming(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('no data here')", encoding="utf-8")
    told = rehearse(tmp_path, str(script))
    assert told.returncode == 1
    assert "the script fails even when nothing happens to it" in told.stderr
    assert len(told.stderr.splitlines()) == 2
    assert "no data here" in told.stdout


def test_a_script_that_attaches_nothing_is_told_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text("print('trained')", encoding="utf-8")
    told = rehearse(tmp_path, str(script))
    assert told.returncode == 1
    assert "the script saved no checkpoint" in told.stderr
    assert "supervisor.attach" in told.stderr


SHORT = """
import sys, time
sys.path.insert(0, {folder!r})
from toy import Model
import supervisor

model = Model(640)
run = supervisor.attach(model=model)
for _ in run.steps(14):
    pass
time.sleep(3)
"""


def test_a_script_that_is_over_too_soon_is_not_tested(tmp_path: Path) -> None:
    script = tmp_path / "short.py"
    script.write_text(SHORT.format(folder=str(TOY.parent)), encoding="utf-8")
    told = rehearse(tmp_path, str(script))
    assert told.returncode == 5, told.stdout + told.stderr
    assert told.stderr.startswith("error: not tested: ")
    assert "give it more to do" in told.stderr
    assert "bit-exact" not in told.stdout


ANEW = """
import os, time, torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
os.makedirs("out", exist_ok=True)
for step in range(150):
    optimizer.zero_grad()
    model(torch.ones(8, 4)).pow(2).mean().backward()
    optimizer.step()
    time.sleep(0.04)
    if step % 10 == 9:
        torch.save({"model": model.state_dict(), "step": step + 1}, "out/ckpt.pt")
"""


@pytest.mark.torch
def test_a_seeded_script_that_reads_no_checkpoint_is_no_exact_resume_and_its_own_files_stay(tmp_path: Path) -> None:
    work = Machine(tmp_path, tmp_path / "unused").work
    (work / "anew.py").write_text(ANEW)
    (work / "out").mkdir()
    (work / "out" / "ckpt.pt").write_bytes(b"mine")
    told = rehearse(tmp_path, "anew.py", "--no-install")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "resume fails: the script begins at its first step again" in told.stdout
    assert "bit-exact" not in told.stdout
    assert "nothing in the folder itself is changed" in told.stdout
    assert (work / "out" / "ckpt.pt").read_bytes() == b"mine"
    assert sorted(path.name for path in work.iterdir()) == ["anew.py", "out"]


def test_after_a_restart_of_the_trainer_it_is_saved_as_before(machine: Machine) -> None:
    turn = running(machine)
    before = live(machine)["checkpoints"]["durable"]
    turn.kill("trainer")
    turn.until("going on from step")
    turn.until(lambda: live(machine)["checkpoints"]["durable"] > before)
    turn.end()
