"""`start -m package.module` runs a module as `python -m` does, and a resume goes on with the same one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import Machine, Turn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
MODEL = """
class Model:
    def __init__(self): self.w = 0.0
    def state_dict(self): return {"w": self.w}
    def load_state_dict(self, state): self.w = state["w"]
"""
TRAIN = """
import sys, time
from .model import Model
if "--bare" not in sys.argv:
    import supervisor
told = sys.modules["__main__"]
print("told", sys.argv, sys.path[0], __name__, __package__, __spec__.name, told.__file__, Model.__module__, flush=True)
if "--bare" not in sys.argv:
    model = Model()
    run = supervisor.attach(model=model)
    for step in run.steps(int(sys.argv[1])):
        model.w += 1
        time.sleep(0.01)
    print("ended", model.w, flush=True)
"""


@pytest.fixture
def package(machine: Machine) -> Path:
    folder = machine.work / "my pkg" / "pkg" / "inner"
    folder.mkdir(parents=True)
    for each in (folder.parent, folder):
        (each / "__init__.py").write_text("")
    (folder / "model.py").write_text(MODEL)
    (folder / "train.py").write_text(TRAIN)
    (folder / "__main__.py").write_text(TRAIN)
    return machine.work / "my pkg"


def told(text: str) -> str:
    return (
        next(line for line in text.splitlines() if line.startswith("told")).replace("'--bare'", "").replace("'3'", "")
    )


@pytest.mark.parametrize("module", ["pkg.inner.train", "pkg.inner"])
def test_a_module_sees_what_python_would_show_it(machine: Machine, package: Path, module: str) -> None:
    machine.work = package
    plain = subprocess.run(
        [sys.executable, "-m", module, "--bare"], cwd=package, capture_output=True, text=True, check=True
    )
    done = machine.run("start", "-m", module, "--", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert told(done.stdout) == told(plain.stdout)
    assert "ended 3.0" in done.stdout
    assert [each["run"] for each in json.loads(machine.run("list", "--json").stdout)] == [module]


def test_a_resume_from_another_folder_goes_on_with_the_module(machine: Machine, package: Path) -> None:
    elsewhere, machine.work = machine.work, package
    command = machine.command("start", "-m", "pkg.inner.train", "--save-every", "100ms", "--", "300")

    turn = Turn(command, machine.work, machine.environ(), machine.folder / "turn.txt")
    turn.until("safe: step")
    turn.kill("both")
    machine.work = elsewhere
    done = machine.run("resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on from step" in done.stdout
    assert "ended 300.0" in done.stdout
