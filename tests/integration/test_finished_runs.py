"""A run that has finished: "finished already" is said only where the checkpoint that it ended with is whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine, final_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
ARGUMENTS = ("--steps", "60", "--step-ms", "1")


@pytest.fixture
def finished(machine: Machine, store: Path) -> Path:
    """The folder of a run that has finished with checkpoints at 20, 40 and 60 steps."""
    done = machine.run("start", str(TOY), "--save-every", "20steps", "--", *ARGUMENTS)
    assert done.returncode == 0, done.stdout
    return store / TOY.stem


def again(machine: Machine) -> str:
    done = machine.run("start", str(TOY), "--save-every", "20steps", "--", *ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def last(run: Path) -> Path:
    return next(run.glob("e*/step-000000060"))


def end_of(run: Path) -> Path:
    return next(run.glob("e*/end-succeeded.json"))


def test_the_record_of_the_end_names_its_checkpoint(finished: Path) -> None:
    end = json.loads(end_of(finished).read_text())
    assert (end["checkpoint"]["epoch"], end["checkpoint"]["step"], end["step"]) == (1, 60, 60)


def test_a_whole_one_is_finished_already_also_by_the_record_of_an_older_version(
    machine: Machine, finished: Path
) -> None:
    assert "This run is finished already" in again(machine)
    end = json.loads(end_of(finished).read_text())
    end_of(finished).write_text(json.dumps({key: value for key, value in end.items() if key != "checkpoint"}))
    assert "This run is finished already" in again(machine)
    assert len(list(finished.glob("e*"))) == 1


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: next(folder.glob("manifest-*")).unlink(), "is not in the store"),
        (lambda folder: next(folder.glob("*.safetensors")).unlink(), "is not whole: "),
        (lambda folder: next(folder.glob("state.json")).write_bytes(b"{"), "state.json is missing or cut short"),
        (lambda folder: next(folder.glob("manifest-*")).write_bytes(b"{"), "its manifest is damaged"),
        (lambda folder: max(folder.parent.glob("log-*.jsonl")).unlink(), ".jsonl is missing or cut short"),
    ],
    ids=["no manifest", "no tensors", "a short file", "a torn manifest", "no piece of the log"],
)
def test_one_that_is_not_whole_is_said_and_trained_again(
    machine: Machine, store: Path, finished: Path, harm: Callable[[Path], object], words: str
) -> None:
    before = final_state(store, TOY.stem)
    harm(last(finished))
    printed = again(machine)
    assert "this run had finished, but step 60, its last checkpoint, is" in printed
    assert words in printed
    assert "going on from step" in printed
    assert final_state(store, TOY.stem)["log"] == before["log"]


def test_a_script_that_saves_nothing_is_finished_all_the_same(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "hello.py"
    script.write_text("print('hello')\n")
    assert machine.run("start", str(script)).returncode == 0
    again = machine.run("start", str(script))
    assert "finished already" in again.stdout
    assert "hello" not in again.stdout.splitlines()
