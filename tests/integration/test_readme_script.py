"""The script of the README is run as it stands there: killed in mid-epoch and resumed, it ends as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.core.messages import Finished, Save, Staged
from supervisor.trainer.compare import differing, differing_generators
from supervisor.trainer.folder import open_folder
from tests.integration.test_attach import ROOT, Played

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.torch]

STEPS = 630  # ten epochs of 63 batches


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """The first block of Python in "Your own script", with a seed before it so that two runs are alike."""
    pytest.importorskip("torch")
    section = (ROOT / "README.md").read_text().partition("## Your own script")[2].partition("\n## ")[0]
    code = section.partition("```python\n")[2].partition("```")[0]
    path = tmp_path / "train.py"
    path.write_text(f"import torch\ntorch.manual_seed(1)\n{code}")
    return path


def test_it_goes_on_in_mid_epoch_and_ends_with_the_same_bits(tmp_path: Path, readme: Path) -> None:
    whole = Played(tmp_path / "whole", readme)
    assert whole.end() == 0, whole.output
    (last,) = whole.all_of(Staged)
    assert last.step == STEPS
    first = Played(tmp_path / "killed", readme, SUPERVISOR_RUN_SAVE_EVERY="100steps")
    staged = first.hear(Staged, beyond_step=99)
    first.process.send_signal(signal.SIGKILL)
    first.end()
    assert staged.step % 63 != 0
    second = Played(tmp_path / "killed", readme, checkpoint=first.staging / staged.folder)
    assert second.end() == 0, second.output
    assert second.all_of(Finished) == [Finished(STEPS)]
    one, other = (
        open_folder(whole.staging / last.folder),
        open_folder(second.staging / second.all_of(Staged)[-1].folder),
    )
    assert differing(one, other) == []
    assert differing_generators(one.rng, other.rng) == []


def test_told_to_stop_it_saves_and_ends(tmp_path: Path, readme: Path) -> None:
    played = Played(tmp_path, readme)
    played.say(Save("test"))
    staged = played.hear(Staged)
    played.process.send_signal(signal.SIGTERM)
    assert played.end() in {0, 143}, played.output  # it may have come to its end before the signal did
    assert open_folder(played.staging / staged.folder).state["objects"].keys() == {"model", "optimizer", "data"}


def test_the_trained_model_is_loaded_as_the_readme_says(tmp_path: Path, readme: Path) -> None:
    alone = subprocess.run(
        [sys.executable, str(readme)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    (newest,) = (tmp_path / "checkpoints" / "train").glob("step-000000630-*")
    import torch

    import supervisor

    model = torch.nn.Linear(20, 1)
    model.load_state_dict(supervisor.load_model_state(newest))
    inputs = torch.randn(100, 20)
    wanted = inputs.sum(1, keepdim=True)
    with torch.no_grad():
        assert (model(inputs) - wanted).square().mean().item() < wanted.square().mean().item()
    assert "supervisor.load_model_state(" in (ROOT / "README.md").read_text()
