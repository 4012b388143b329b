"""Each framework's script is killed within an epoch and resumed on a blank machine: it ends as the one that nothing happened to.

A new framework, or a loop of one, is a script in ``scripts`` and a row here. Many kills at random times of a row's script:
``python -m benchmarks.kills --script tests/frameworks/scripts/X.py -- --steps 120 --step-ms 40``.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.machines import Machine, final_state

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "scripts"
STEPS = 60  # three epochs of twenty
WAIT_S_MAX = 300
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Row:
    script: str
    needs: str
    backend: str = ""

    @property
    def name(self) -> str:
        return f"{self.script} {self.backend}".strip()


ROWS = [
    Row("tensorflow_loop", "tensorflow"),
    Row("keras_loop", "keras", "tensorflow"),
    Row("jax_loop", "jax"),
    Row("keras_fit", "keras", "tensorflow"),
    Row("keras_fit", "keras", "torch"),
    Row("keras_fit", "keras", "jax"),
    Row("transformers_trainer", "transformers"),
    Row("accelerate_loop", "accelerate"),
    Row("lightning_fit", "lightning"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_ends_as_the_one_that_nothing_happened_to(tmp_path, row, monkeypatch):
    for package in filter(None, (row.needs, row.backend)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install {package}")
    for name, value in {**QUIET, **({"KERAS_BACKEND": row.backend} if row.backend else {})}.items():
        monkeypatch.setenv(name, value)
    script = SCRIPTS / f"{row.script}.py"
    wanted, _ = kills.reference(
        kills.Plan(script, ("--steps", str(STEPS)), "3steps", 1, sys.executable), tmp_path / "reference"
    )

    def started(machine):
        arguments = ("--steps", str(STEPS), "--step-ms", "40")
        return Machine(tmp_path / machine, tmp_path / "store").start(
            script, "--save-every", "3steps", arguments=arguments
        )

    def has_left_an_epoch_behind():
        return [path for path in (tmp_path / "store").glob("*/*/step-*") if int(path.name.split("-")[1]) > STEPS // 3]

    first = started("first")
    first.until(has_left_an_epoch_behind, WAIT_S_MAX)
    first.kill("both")
    second = started("second")
    assert second.wait(WAIT_S_MAX) == 0, second.text
    assert kills.differences(final_state(tmp_path / "store", row.script), wanted) == []
