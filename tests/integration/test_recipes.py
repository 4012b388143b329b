"""Each recipe of docs/recipes.md is run as it stands there: killed in mid-epoch and resumed, it ends as the undisturbed one."""

from __future__ import annotations

import importlib.util
import re
import signal
from typing import TYPE_CHECKING

import pytest

from supervisor.core.messages import Staged
from supervisor.trainer.compare import differing, differing_generators
from supervisor.trainer.folder import open_folder
from tests.integration.test_attach import ROOT, Played

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
STEPS, EPOCH = 100, 25
RECIPE = re.compile(r"<!-- recipe: (\w+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"dataloader": "torch", "workers": "torch", "iterable": "torch"}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}


def recipes() -> dict[str, str]:
    return dict(RECIPE.findall((ROOT / "docs" / "recipes.md").read_text()))


def _rows() -> list:
    return [
        pytest.param(name, marks=() if name in NEEDS else pytest.mark.frameworks, id=name) for name in sorted(recipes())
    ]


def test_every_block_of_the_page_is_a_recipe() -> None:
    assert (ROOT / "docs" / "recipes.md").read_text().count("```python") == len(
        recipes()
    ) + 1  # how the trained model is loaded


@pytest.mark.parametrize("name", _rows())
def test_a_recipe_killed_in_mid_epoch_ends_with_the_same_bits(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = NEEDS.get(name, name)
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"needs {needs}")
    script = tmp_path / "train.py"
    script.write_text(recipes()[name])
    monkeypatch.chdir(tmp_path)
    whole = Played(tmp_path / "whole", script, **QUIET)
    assert whole.end() == 0, whole.output
    last = whole.all_of(Staged)[-1]
    assert last.step == STEPS
    first = Played(tmp_path / "killed", script, SUPERVISOR_RUN_SAVE_EVERY="30steps", **QUIET)
    staged = first.hear(Staged, beyond_step=29)
    first.process.send_signal(signal.SIGKILL)
    first.end()
    assert staged.step % EPOCH != 0
    second = Played(tmp_path / "killed", script, checkpoint=first.staging / staged.folder, **QUIET)
    assert second.end() == 0, second.output
    one = open_folder(whole.staging / last.folder)
    other = open_folder(second.staging / second.all_of(Staged)[-1].folder)
    assert (one.step, other.step) == (STEPS, STEPS)
    assert differing(one, other) == []
    assert differing_generators(one.rng, other.rng) == []
