"""A batch that makes the loss NaN: the run goes back before it, leaves it out and ends as if it had never been among the data."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import WAIT_S_MAX, Machine, final_state
from supervisor.engine import checkpoints
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
SCRIPT = """
import argparse, math, random, supervisor
from supervisor.trainer.order import Order

class Model:
    def __init__(self):
        self.weights, self.param_groups = [0.0] * 4, [{"lr": 1.0}]
    def state_dict(self):
        return {"weights": self.weights, "lr": self.param_groups[0]["lr"]}
    def load_state_dict(self, state):
        self.weights, self.param_groups[0]["lr"] = state["weights"], state["lr"]
    def update(self, sample, bad):
        rate = math.nan if bad else self.param_groups[0]["lr"]
        self.weights[sample % 4] += rate * random.gauss(0.0, 1.0)

parser = argparse.ArgumentParser()
parser.add_argument("--bad", type=int, nargs="*", default=[])
parser.add_argument("--late", type=int, default=0)
parser.add_argument("--by-hand", type=int, nargs="*", default=[])
parser.add_argument("--slower-from", type=int, default=999)
options = parser.parse_args()
random.seed(5)
model, order = Model(), Order(50, seed=2)
run = supervisor.attach(model=model, data=order)
for step in run.steps(60, epoch_steps=10):
    model.param_groups[0]["lr"] = 0.5 if step >= options.slower_from else model.param_groups[0]["lr"]
    if step % 10 == 0:
        run.flush()  # so that there is a checkpoint of every tenth step, however fast this goes
    samples = [next(order) for _ in range(5)]
    if step in options.by_hand:
        continue
    for sample in samples:
        model.update(sample, step in options.bad)
    loss = sum(model.weights)
    if step % 10 == 9:
        run.log(val_iou=math.nan)
    late = math.isnan(loss) and step < min(options.bad) + options.late
    run.log(loss=step / 100 if late else abs(loss) + 1.0, first=samples[0])
"""
PLAIN = """
import argparse, math, os, time, torch
parser = argparse.ArgumentParser()
parser.add_argument("--once")
parser.add_argument("--resume")
options = parser.parse_args()
model = torch.nn.Linear(2, 1)
optimizer, done = torch.optim.SGD(model.parameters(), 0.01), 0
if options.resume:
    kept = torch.load(options.resume)
    model.load_state_dict(kept["model"])
    done = kept["step"]
print(f"begins at {done}", flush=True)
for step in range(done, 60):
    loss = model(torch.ones(1, 2)).square().sum() + 1.0
    if step == 45 and not os.path.exists(options.once):
        open(options.once, "w").close()
        loss = loss * math.nan
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    # So that the loss is looked at between saves, as in real training, and before the end, however busy the machine.
    time.sleep(0.1 if math.isfinite(loss) else 2.0)
    if step % 10 == 9:
        torch.save({"model": model.state_dict(), "step": step + 1}, "own.pt")
assert all(value.isfinite().all() for value in model.parameters())
"""
STEPS = ("--save-every", "10steps", "--no-install")
BACK = (*STEPS, "--on-nan", "rollback")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(SCRIPT)
    return path


def served(machine: Machine, script: Path, options: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    turn = machine.start(script, *options, arguments=arguments)
    return turn.wait(), turn.text


def by_hand(fresh_machine: Callable[[], Machine], script: Path, *arguments: str) -> dict[str, Any]:
    machine = fresh_machine()
    machine.store = machine.folder / "runs"
    assert served(machine, script, STEPS, *arguments)[0] == 0
    return final_state(machine.store, "toy")


def withdrawn(store: Path) -> list[str]:
    listed = checkpoints.look_over(FolderStore(str(store)), RunPlace("toy"))
    return [each.name for each in sorted(listed.rollbacks, key=lambda each: each.rank)]


def status(machine: Machine) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(machine.run("status", "toy", "--json").stdout)
    return told


def test_a_run_goes_back_and_ends_as_one_in_which_these_batches_were_left_out_by_hand(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path
) -> None:
    code, text = served(machine, script, BACK, "--bad", "25")
    assert code == 0, text
    assert "loss is nan at step 25" in text
    assert "leaving out steps 24 to 25 (2 of 60): data will be told" in text
    ended = final_state(store, "toy")
    assert ended["state"] == by_hand(fresh_machine, script, "--by-hand", "24", "25")["state"]
    assert [row["step"] for row in ended["log"]] == list(range(60))
    assert [row["step"] for row in ended["log"] if row.get("skipped")] == [24, 25]
    assert len(withdrawn(store)) == 1
    seen = status(machine)
    assert (seen["state"], seen["trouble"], seen["rollbacks"]) == ("SUCCEEDED", "loss is nan at step 25", 1)
    assert "gone back 1 time" in machine.run("status", "toy").stdout
    assert "loss is nan at step 25" in machine.run("logs", "toy").stdout


def test_a_smaller_rate_is_applied_once_and_stays(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path
) -> None:
    code, text = served(machine, script, (*BACK, "--nan-rate", "0.5"), "--bad", "25")
    assert code == 0, text
    assert "learning rate of model times 0.5" in text
    wanted = by_hand(fresh_machine, script, "--by-hand", "24", "25", "--slower-from", "20")
    assert final_state(store, "toy")["state"] == wanted["state"]


def test_what_goes_wrong_again_is_gone_back_from_once_more_and_one_checkpoint_further(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path
) -> None:
    code, text = served(machine, script, BACK, "--bad", "22", "--late", "4")
    assert code == 0, text
    assert "try 2 of 2" in text
    wanted = by_hand(fresh_machine, script, "--by-hand", *map(str, range(10, 28)))
    assert final_state(store, "toy")["state"] == wanted["state"]


def test_what_does_not_go_away_stops_with_two_lines_and_no_later_start_goes_on_from_it(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path
) -> None:
    bad = ("--bad", *map(str, range(25, 60)))
    code, text = served(machine, script, BACK, *bad)
    assert code == 1, text
    assert "error: loss is nan at step 27, and going back was tried 2 times\n  try: " in text
    assert len(withdrawn(store)) == 3
    code, text = served(fresh_machine(), script, BACK)
    assert code == 0, text
    assert "going on from step" in text
    assert "nan" not in json.dumps(final_state(store, "toy")["log"]).lower().replace('"val_iou": "nan"', "")


def test_who_mends_nothing_is_asked_in_the_end(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path
) -> None:
    bad = ("--bad", *map(str, range(25, 60)))
    code, text = served(machine, script, BACK, *bad)
    starts = 1
    while code == 1 and starts < 9:
        code, text = served(fresh_machine(), script, BACK, *bad)
        starts += 1
    assert code == 4, text
    assert starts > 2, "who starts again gets the same checkpoint once more"
    assert "error: every checkpoint that is left is from after the trouble, and withdrawn\n  try: " in text


def test_stop_ends_with_two_lines_and_the_next_start_goes_on_before_the_trouble(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path
) -> None:
    code, text = served(machine, script, (*STEPS, "--on-nan", "stop"), "--bad", "20")
    assert code == 1, text
    assert "error: loss is nan at step 20\n  try: mend the data" in text
    code, text = served(fresh_machine(), script, STEPS)
    assert code == 0, text
    assert "going on from step 10," in text, "the checkpoint at step 20 may hold what made the loss NaN"
    assert final_state(store, "toy")["state"] == by_hand(fresh_machine, script)["state"]


def test_by_default_a_trouble_is_only_said(machine: Machine, script: Path) -> None:
    code, text = served(machine, script, STEPS, "--bad", "25")
    assert code == 0
    assert text.count("loss is nan") == 1
    assert status(machine)["trouble"] == "loss is nan at step 25"


@pytest.mark.parametrize("before", ["supervisor.engine.claims.write_end", "supervisor.wiring.following"])
def test_killed_on_the_way_back_any_machine_knows_what_is_withdrawn_and_left_out(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, store: Path, before: str
) -> None:
    """Right after the record of what is withdrawn, and right after the end of the session."""
    module, name = before.rsplit(".", 1)
    killed = f"import importlib, os, runpy, sys; from supervisor import wiring; there = importlib.import_module({module!r}); "
    killed += f"there.{name} = lambda *_: os.kill(os.getpid(), 9); runpy.run_module('supervisor', run_name='__main__')"
    words = ("start", str(script), "--store", str(store), *BACK, "--", "--bad", "20")
    command = [sys.executable, "-c", killed, *words]
    dead = subprocess.run(
        command,
        cwd=machine.work,
        env=machine.environ(),
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert dead.returncode == -9, dead.stderr
    code, text = served(fresh_machine(), script, BACK, "--bad", "20")
    assert code == 0, text
    assert "going on from step 10," in text
    assert "leaving out steps 19 to 20" in text
    assert len(withdrawn(store)) == 1
    wanted = by_hand(fresh_machine, script, "--by-hand", "19", "20")
    assert final_state(store, "toy")["state"] == wanted["state"]


def plain(machine: Machine, tmp_path: Path, how: str) -> tuple[int, str]:
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    options = ("--no-install", "--save-every", "500ms", "--on-nan", how, "--resume-args", "--resume {checkpoint}")
    return served(machine, script, options, "--once", str(tmp_path / "once"))


def test_a_script_that_nobody_changed_goes_back_to_its_own_last_good_file(machine: Machine, tmp_path: Path) -> None:
    code, text = plain(machine, tmp_path, "rollback")
    assert code == 0, text
    assert "loss is nan at step 4" in text
    assert "nothing is left out after going back" in text
    begun = [int(line.split()[-1]) for line in text.splitlines() if line.startswith("begins at")]
    assert begun[0] == 0
    assert 0 < begun[-1] <= 40


def test_a_script_that_nobody_changed_is_stopped(
    machine: Machine, fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    code, text = plain(machine, tmp_path, "stop")
    assert code == 1, text
    assert "error: loss is nan at step 4" in text
    code, text = plain(fresh_machine(), tmp_path, "stop")
    assert code == 0, text
    assert "begins at 0" not in text


STAYS = """
import argparse, glob, math, time, supervisor
class Model:
    def __init__(self):
        self.weights = [1.0]
    def state_dict(self):
        return {"weights": self.weights}
    def load_state_dict(self, state):
        self.weights = state["weights"]
told = argparse.ArgumentParser()
told.add_argument("--steps", type=int)
told.add_argument("--run")
told.add_argument("--silent-from", type=int, default=999)
told.add_argument("--mended-at", type=int, default=999)
told = told.parse_args()
model = Model()
run = supervisor.attach(model=model)
for step in run.steps(told.steps):
    if step % 10 == 0:
        run.flush()
        while step and not glob.glob(f"{told.run}/e*/step-{step:09d}/manifest-*"):
            time.sleep(0.01)  # so that each tenth step is published, however fast this goes
    model.weights[0] = math.nan if 25 <= step < told.mended_at else step + 1.0
    if step < told.silent_from:
        run.log(loss=model.weights[0], first=step)
"""


def stored(machine: Machine) -> list[int]:
    listed: list[dict[str, Any]] = json.loads(machine.run("checkpoints", "toy", "--json").stdout)
    return [each["step"] for each in listed]


def test_the_last_checkpoint_before_it_stays_over_machines_and_is_named_everywhere(
    machine: Machine, fresh_machine: Callable[[], Machine], script: Path, tmp_path: Path
) -> None:
    script.write_text(STAYS)
    code, text = served(machine, script, STEPS, "--run", str(machine.store / "toy"), "--steps", "70")
    assert code == 0, text
    assert "loss is no number since step 25" in text
    assert "checkpoints toy export 20 DIR" in text.splitlines()[-1]
    assert stored(machine) == [20, 50, 60, 70]
    second = fresh_machine()
    code, text = served(
        second, script, STEPS, "--run", str(machine.store / "toy"), "--steps", "120", "--silent-from", "70"
    )
    assert code == 0, text
    assert "loss is no number since step 25" in text
    third = fresh_machine()
    assert stored(third) == [20, 100, 110, 120]
    assert "the last before the loss became no number" in third.run("checkpoints", "toy").stdout
    shown = third.run("status", "toy").stdout
    assert "loss is no number since step 25" in shown
    assert "checkpoints toy export 20 DIR" in shown
    assert status(third)["nan"] == {"since": 25, "fine": 24, "names": ["loss"], "last_good": 20}
    assert third.run("checkpoints", "toy", "prune", "--yes").returncode == 0
    assert 20 in stored(third)
    done = third.run("checkpoints", "toy", "export", "20", str(tmp_path / "good"))
    assert done.returncode == 0, done.stderr


def test_once_the_loss_is_a_number_again_the_usual_rule_holds(machine: Machine, script: Path) -> None:
    script.write_text(STAYS)
    code, text = served(
        machine, script, STEPS, "--run", str(machine.store / "toy"), "--steps", "90", "--mended-at", "45"
    )
    assert code == 0, text
    assert "no number" not in text
    assert stored(machine) == [70, 80, 90]
    assert status(machine)["nan"] is None
    assert status(machine)["trouble"] == "loss is nan at step 25"


def test_of_a_script_that_nobody_changed_the_last_files_before_it_stay(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    text = PLAIN.replace("if step == 45 and not os.path.exists(options.once)", "if step >= 25")
    text = text.replace('open(options.once, "w").close()', "pass").replace(
        "time.sleep(0.1 if math.isfinite(loss) else 2.0)", "time.sleep(0.15)"
    )
    script.write_text(text.replace("assert all", "print('end') or all"))
    options = ("--no-install", "--save-every", "500ms", "--resume-args", "--resume {checkpoint}")
    code, text = served(machine, script, options, "--once", "never")
    assert code == 0, text
    assert "no number since step" in text
    named = status_of(machine, "plain")["nan"]
    assert named["last_good"] is not None, text
    assert named["last_good"] <= named["fine"] <= 26
    listed: list[dict[str, Any]] = json.loads(machine.run("checkpoints", "plain", "--json").stdout)
    assert named["last_good"] in [each["step"] for each in listed]
    assert len(listed) > 3


def status_of(machine: Machine, run: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(machine.run("status", run, "--json").stdout)
    return told
