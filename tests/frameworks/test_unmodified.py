"""Training scripts as their frameworks' own pages show them, not one line of them changed: watched, interrupted, gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.machines import Machine
from supervisor.core.events import TrainerSaid
from supervisor.core.messages import Beat, Note, Saved, Stopped
from supervisor.engine import journal
from supervisor.engine.claims import ranks
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(1800)]

SCRIPTS = Path(__file__).parent / "scripts" / "unmodified"
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
WAIT_S_MAX = 300.0


class Case(NamedTuple):
    """A script: what it needs, its arguments, how it is told to go on, and what it has done at its end."""

    name: str
    package: str
    arguments: tuple[str, ...]
    resume: str
    steps: int
    saved: str  # the beginning of a file or folder that it saves
    final: str


CASES = {
    case.name: case
    for case in (
        Case("mnist_like", "torch", ("--step-ms", "40"), "--resume {checkpoint}", 80, "checkpoint-4.pt", "final.pt"),
        Case("keras_modelcheckpoint", "keras", ("--step-ms", "40"), "", 72, "backup", "final.npz"),
        Case(
            "hf_trainer", "transformers", ("--step-ms", "40"), "--resume_from_checkpoint {checkpoint}", 60,
            "checkpoint-60", "final/model.safetensors",
        ),
        Case(
            "lightning_cli", "lightning",
            ("fit", "--model.step_ms", "40", "--trainer.max_epochs", "4", "--trainer.enable_progress_bar", "false"),
            "--ckpt_path {checkpoint}", 80, "epoch=3-step=80.ckpt", "final.pt",
        ),
        Case("tf_manager", "tensorflow", ("--step-ms", "40"), "", 60, "tf_ckpts", "final.npy"),
        Case("sklearn_joblib", "sklearn", ("--round-ms", "80"), "", 0, "state.joblib", "final.npy"),
    )
}  # fmt: skip


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    """Return each script whose framework is there."""
    found = CASES[request.param]
    pytest.importorskip(found.package, reason=f"needs {found.package}: pip install {found.package}")
    return found


@pytest.fixture(scope="module")
def alone(case, tmp_path_factory):
    """Return the file that the script leaves when plain Python runs it, undisturbed."""
    folder = tmp_path_factory.mktemp(case.name)
    environ = {**Machine(folder / "machine", folder / "store").environ(), **QUIET}
    command = [sys.executable, str(SCRIPTS / f"{case.name}.py"), *case.arguments]
    subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, timeout=WAIT_S_MAX)
    return folder / case.final


@pytest.fixture(scope="module")
def machines(case, tmp_path_factory):
    """Return a machine that died when a first save of the script was safe, and the blank one on which it came to its end."""
    folder = tmp_path_factory.mktemp(case.name)
    first, second = (Machine(folder / name, folder / "store") for name in ("first", "second"))
    turn = start(first, case)
    turn.until(lambda: safe(first), WAIT_S_MAX)
    turn.kill("both")
    turn = start(second, case)
    assert turn.wait(WAIT_S_MAX) == 0, turn.text
    return first, second


def start(machine, case):
    options = ["--no-install", *(["--resume-args", case.resume] if case.resume else [])]
    return machine.start(SCRIPTS / f"{case.name}.py", *options, arguments=case.arguments, environ=QUIET)


def safe(machine):
    """Return the checkpoints that are whole in the store."""
    return sorted(machine.store.glob("*/*/step-*/manifest-*"))


def said(machine, case, session=-1):
    """Return what the trainer of a session said, oldest first; of one that died, what came into the store."""
    store, run = FolderStore(str(machine.store)), RunPlace(case.name)
    records = journal.records(store, run, sorted(ranks(store, run))[session])
    return [record.value.message for record in records if isinstance(record.value, TrainerSaid)]


def test_it_ends_as_without_the_supervisor_though_its_machine_died(machines, alone, case):
    assert (machines[1].work / case.final).read_bytes() == alone.read_bytes()


def test_it_goes_on_after_the_step_that_was_safe(machines, case):
    beats = [each.step for each in said(machines[1], case) if isinstance(each, Beat)]
    if case.steps == 0:
        assert set(beats) == {1}, "the number of the snapshot that was put back"
    else:
        assert 0 < beats[0] < beats[-1] == case.steps
        assert beats == sorted(beats)


def test_its_saves_are_seen(machines, case):
    heard = said(machines[1], case)
    found = [each for each in heard if isinstance(each, Saved)]
    assert any(Path(each.path).name.startswith(case.saved) and each.whole for each in found)
    assert all(Path(each.path).is_relative_to(machines[1].work) for each in found)
    assert not [each.text for each in heard if isinstance(each, Note) and "cannot be watched" in each.text]


def test_status_tells_its_steps(machines, case):
    if case.steps == 0:
        pytest.skip("no framework counts its rounds")
    shown = machines[1].run("status", case.name, "--json")
    assert shown.returncode == 0, shown.stderr
    assert f'"step": {case.steps}' in json.dumps(json.loads(shown.stdout))


def test_told_to_end_a_framework_saves_first_and_ends_there(case, tmp_path):
    if case.name not in {"hf_trainer", "lightning_cli", "keras_modelcheckpoint"}:
        pytest.skip("no framework has its loop")
    machine = Machine(tmp_path / "machine", tmp_path / "store")
    turn = start(machine, case)
    turn.until(lambda: safe(machine), WAIT_S_MAX)
    turn.signal(signal.SIGINT)
    turn.wait(WAIT_S_MAX)
    heard = said(machine, case)
    (stopped,) = (each.step for each in heard if isinstance(each, Stopped))
    assert 0 < stopped < case.steps
    assert [each.step for each in heard if isinstance(each, Saved)][-1] == stopped
    assert any(f"step-{stopped:09d}" in str(path) for path in safe(machine)), turn.text
