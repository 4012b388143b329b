"""A run is its project's: another project's script of the same name never takes it over, and the own one always finds it."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import final_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine, Turn

pytestmark = pytest.mark.slow

ATTACHED = """
import argparse, time
import supervisor
class Model:
    def __init__(self):
        self.weights = [0.0] * 4
    def state_dict(self):
        return {"weights": self.weights}
    def load_state_dict(self, state):
        self.weights = state["weights"]
told = argparse.ArgumentParser()
told.add_argument("--steps", type=int, default=30)
told.add_argument("--ms", type=int, default=0)
told = told.parse_args()
model = Model()
run = supervisor.attach(model=model)
for step in run.steps(told.steps):
    model.weights[step % 4] += RATE
    run.log(loss=1.0)
    time.sleep(told.ms / 1000)
print("PROJECT trained to", run.step)
"""
UNMODIFIED = """
import argparse, os, pathlib, time
told = argparse.ArgumentParser()
told.add_argument("--ms", type=int, default=0)
told = told.parse_args()
os.makedirs("out", exist_ok=True)
print("PROJECT sees", sorted(os.listdir("out")), flush=True)
for step in range(10, 40, 10):
    beside = pathlib.Path(f"out/PROJECT_{step}.tmp")
    beside.write_text("PROJECT" * 100)
    beside.rename(f"out/PROJECT_{step}.bin")
    time.sleep(told.ms / 1000)
time.sleep(1.0)
"""
SAVES = ("--save-every", "5steps", "--no-install")


def script(folder: Path, text: str, rate: str = "1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.py"
    path.write_text(text.replace("PROJECT", folder.name).replace("RATE", rate))
    return path


def killed(machine: Machine, of: Path, *options: str, ms: str = "50") -> None:
    """Leave a run whose machine was lost when something of it was safe."""
    turn = machine.start(of, *options, arguments=("--ms", ms))
    turn.until(lambda: list(machine.store.glob("train/e*/step-*/manifest-*")))
    turn.kill("both")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("how", ["finished", "killed", "running"])
@pytest.mark.parametrize("text", [ATTACHED, UNMODIFIED], ids=["attached", "watched"])
def test_another_projects_script_of_that_name_is_refused_and_trains_under_the_proposed_name(
    fresh_machine: Callable[[], Machine], tmp_path: Path, text: str, how: str
) -> None:
    options = SAVES if text is ATTACHED else ("--watch", "out", "--save-every", "100ms", "--no-install")
    machine, other = fresh_machine(), fresh_machine()
    alpha, beta = script(tmp_path / "alpha", text), script(tmp_path / "beta", text, rate="2.0")
    running: Turn | None = None
    if how == "finished":
        assert machine.start(alpha, *options).wait() == 0
    elif how == "killed":
        killed(machine, alpha, *options, ms="50" if text is ATTACHED else "3000")
    else:
        running = machine.start(
            alpha, *options, arguments=("--ms", "2000", *(("--steps", "9") if text is ATTACHED else ()))
        )
        running.until(lambda: list(machine.store.glob("train/e*/claim.json")))
    before = {} if running else contents(machine.store / "train")
    done = other.run("start", str(beta), *options)
    assert done.returncode == 4, done.stdout + done.stderr
    what, hint = done.stderr.splitlines()
    assert "'alpha'" in what
    assert "'beta'" in what
    name = re.search(r"--name (\S+)", hint)
    assert name is not None
    assert name[1] == "beta-train"
    if running:
        running.kill("both")
    else:
        assert contents(machine.store / "train") == before
    assert not list((other.work / "out").glob("alpha*")) if (other.work / "out").exists() else True
    assert other.run("start", str(beta), *options, "--name", name[1]).returncode == 0
    shown = other.run("list").stdout
    assert "beta-train" in shown


def test_the_own_project_finds_its_run_on_every_machine(fresh_machine: Callable[[], Machine], tmp_path: Path) -> None:
    machine, second, third = fresh_machine(), fresh_machine(), fresh_machine()
    killed(machine, script(tmp_path / "alpha", ATTACHED), *SAVES)
    shutil.copytree(tmp_path / "alpha", tmp_path / "vm2" / "beta")
    killed(second, tmp_path / "vm2" / "beta" / "train.py", *SAVES)
    edited = script(tmp_path / "vm3" / "alpha", ATTACHED, rate="3.0")
    done = third.run("start", str(edited), *SAVES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on from step" in done.stdout
    assert "the script was edited" in done.stdout
    assert "bit for bit" in done.stdout
    assert final_state(machine.store, "train")["step"] == 30


def test_what_changed_is_said_and_only_that(fresh_machine: Callable[[], Machine], tmp_path: Path) -> None:
    machine = fresh_machine()
    of = script(tmp_path / "alpha", ATTACHED)
    (of.parent / "supplement.py").write_text("RATE = 1\n")
    of.write_text(f"import supplement\n{of.read_text()}")
    assert machine.run("start", str(of), *SAVES, "--", "--steps", "10").returncode == 0
    more = machine.run("start", str(of), *SAVES, "--", "--steps", "20")
    assert "its arguments changed from `--steps 10` to `--steps 20`" in more.stdout
    assert "edited" not in more.stdout
    (of.parent / "supplement.py").write_text("RATE = 2\n")
    again = machine.run("start", str(of), *SAVES, "--", "--steps", "30")
    assert "supplement.py was edited and its arguments changed" in again.stdout


def test_finished_already_says_what_changed_and_how_to_train_again(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    machine = fresh_machine()
    of = script(tmp_path / "alpha", ATTACHED)
    assert machine.run("start", str(of), *SAVES).returncode == 0
    again = machine.run("start", str(of), *SAVES)
    assert (again.returncode, "edited" in again.stdout) == (0, False)
    assert "finished already" in again.stdout
    assert "--resume never" in again.stdout
    assert "--name" in again.stdout
    script(tmp_path / "alpha", ATTACHED, rate="2.0")
    edited = machine.run("start", str(of), *SAVES)
    assert "finished already; the script was edited since" in edited.stdout


def test_a_run_that_began_again_shows_no_step_of_the_training_before(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    machine = fresh_machine()
    of = script(tmp_path / "alpha", ATTACHED)
    assert machine.run("start", str(of), *SAVES).returncode == 0
    slow = ("--steps", "40", "--ms", "100")
    turn = machine.start(of, "--resume", "never", "--save-every", "1000steps", "--no-install", arguments=slow)
    turn.until(lambda: list(machine.store.glob("train/e00000002*/anew.json")))

    def seen() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(machine.run("status", "train", "--json").stdout)
        return told

    told = seen()
    assert told["checkpoints"] == {"staged": None, "submitted": None, "durable": None}
    assert "nothing safe yet" in machine.run("status", "train").stdout
    turn.kill("both")
    assert seen()["checkpoints"]["durable"] is None
    again = machine.run("start", str(of), *SAVES)
    assert "beginning at step 0" in again.stdout, again.stdout


@pytest.mark.parametrize("harm", ["absent", "empty", "damaged"])
def test_a_finished_run_whose_claim_is_lost_is_asked_for_more_steps_and_makes_them(
    machine: Machine, tmp_path: Path, harm: str
) -> None:
    of = script(tmp_path / "alpha", ATTACHED)
    assert machine.run("start", str(of), *SAVES).returncode == 0
    (claim,) = machine.store.glob("train/e*/claim.json")
    claim.unlink() if harm == "absent" else claim.write_text({"empty": "", "damaged": '{"arg'}[harm])
    done = machine.run("start", str(of), *SAVES, "--", "--steps", "50")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained to 50" in done.stdout


@pytest.mark.parametrize("record", [None, "", '{"schema": 1, ', '{"schema": 1, "id": 1.5}'])
def test_every_verb_works_from_the_sessions_where_the_record_is_lost(
    machine: Machine, tmp_path: Path, record: str | None
) -> None:
    of = script(tmp_path / "alpha", ATTACHED)
    assert machine.run("start", str(of), *SAVES).returncode == 0
    assert machine.run("start", str(of), *SAVES, "--name", "other").returncode == 0
    file = machine.store / "train" / "run.json"
    file.unlink() if record is None else file.write_text(record)
    listed = machine.run("list")
    assert (listed.returncode, "train" in listed.stdout, "other" in listed.stdout) == (0, True, True)
    for words in (["status"], ["checkpoints"], ["logs"], ["stop"]):
        done = machine.run(words[0], "train", *words[1:])
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("run.json") == 1, done.stderr
    assert machine.run("checkpoints", "train", "verify").returncode == 0
    assert machine.run("checkpoints", "train", "export", "latest", str(tmp_path / "export")).returncode == 0
    again = machine.run("start", str(of), *SAVES, "--", "--steps", "40")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "going on from step 30" in again.stdout
    assert machine.run("status", "train").stderr == ""


def test_a_resume_that_must_find_something_leaves_no_run_behind(machine: Machine, tmp_path: Path) -> None:
    done = machine.run("start", str(script(tmp_path / "alpha", ATTACHED)), "--resume", "must")
    assert done.returncode == 4
    assert "no checkpoint to resume from" in done.stderr
    assert not machine.store.exists() or not any(machine.store.iterdir())
    assert "no runs" in machine.run("list").stdout
