"""python -m hyperlpr_example on right and wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

from hyperlpr_example.__main__ import main  # noqa: E402
from hyperlpr_example.checkpoints import is_keras, newest_in  # noqa: E402
from hyperlpr_example.in_torch.network import SegmentationFree  # noqa: E402
from hyperlpr_example.in_torch.reading import reader_of  # noqa: E402
from hyperlpr_example.reading import read_plates  # noqa: E402
from hyperlpr_example.weights import load_reader  # noqa: E402

CHECKOUT = Path(__file__).parents[3]
SCRIPT = """
import torch, supervisor
from hyperlpr_example.in_torch.network import SegmentationFree
torch.manual_seed(5)
run = supervisor.attach(model={})
for step in run.steps(1):
    pass
"""


@pytest.fixture
def plates(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    for index in range(30):
        Image.new("RGB", (94, 24), (0, 0, 8 * index)).save(folder / f"皖A{index:05d}.png")
    (folder / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as a run without a supervisor makes it."""
    return make_checkpoint(tmp_path_factory.mktemp("recogniser"), "SegmentationFree(0.25)")


def make_checkpoint(folder, network):
    script = folder / "script.py"
    script.write_text(SCRIPT.format(network))
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    subprocess.run([sys.executable, script], cwd=folder, check=True, env=environment)
    return newest_in(folder)


def test_a_checkpoint_reads_as_the_network_that_it_was_made_of(checkpoint):
    torch.manual_seed(5)
    made = reader_of(SegmentationFree(0.25).eval())
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 160), np.uint8)
    reader = load_reader(str(checkpoint))
    assert reader.best_classes(pictures) == made(pictures)
    assert read_plates(reader.best_classes, pictures) == read_plates(made, pictures)
    assert reader.drop_first == 0
    assert not is_keras(checkpoint)


def test_evaluate_judges_the_held_out_plates_and_names_bad_files(plates, checkpoint, capsys):
    assert main(["evaluate", str(checkpoint), str(plates)]) == 0
    shown = capsys.readouterr().out
    assert "left out: broken.png" in shown
    assert "(4 plates)" in shown
    assert "plates/s" in shown


def test_evaluate_can_judge_all_plates(plates, checkpoint, capsys):
    assert main(["evaluate", str(checkpoint), str(plates), "--split", "all"]) == 0
    assert "(30 plates)" in capsys.readouterr().out


def test_predict_gives_a_line_a_picture(plates, checkpoint, capsys):
    pictures = [str(plates / f"皖A0000{index}.png") for index in range(3)]
    assert main(["predict", str(checkpoint), *pictures]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == pictures


def test_a_folder_of_checkpoints_means_the_newest(tmp_path):
    for step in (900, 1000, 20):
        folder = tmp_path / "run" / f"step-{step:09d}-1"
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")
    assert newest_in(tmp_path).name == "step-000001000-1"


def test_wrong_input_ends_in_two_lines(plates, checkpoint, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "checkpoint.json").write_text(json.dumps({"format": "something else"}))
    for arguments in (
        ["evaluate", str(tmp_path / "nowhere"), str(plates)],
        ["evaluate", str(damaged), str(plates)],
        ["evaluate", str(checkpoint), str(tmp_path / "nowhere")],
        ["predict", str(checkpoint), str(plates / "broken.png")],
        ["predict", str(checkpoint), str(tmp_path / "nowhere.png")],
    ):
        assert main(arguments) != 0
        shown = capsys.readouterr().err
        assert len(shown.splitlines()) == 2, shown


def test_another_networks_checkpoint_is_refused_by_name(plates, tmp_path, capsys):
    folder = make_checkpoint(tmp_path, "torch.nn.Linear(2, 2)")
    assert main(["evaluate", str(folder), str(plates)]) != 0
    assert "not a checkpoint of the plate recogniser" in capsys.readouterr().err
