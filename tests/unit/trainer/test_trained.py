"""The trained model of a checkpoint is read by other programs: by plain torch, by safetensors, by Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import supervisor
from supervisor.core.errors import UserError
from supervisor.trainer import trained
from tests.integration.test_recipes import recipes

ROOT = Path(__file__).resolve().parents[3]


def checkpoint_of(folder: Path, code: str, **environ: str) -> Path:
    """Run a script without a supervisor and return its newest checkpoint."""
    (folder / "train.py").write_text(code)
    told = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "", **environ},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return max((folder / "checkpoints" / "train").glob("step-*"))


@pytest.fixture(scope="module")
def torch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return checkpoint_of(tmp_path_factory.mktemp("trained"), recipes()["dataloader"])


def fresh():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Dropout(0.1), torch.nn.Linear(32, 1))


@pytest.mark.slow
@pytest.mark.torch
def test_plain_torch_loads_the_file_into_a_fresh_model(tmp_path: Path, torch_folder: Path) -> None:
    import torch

    assert trained.main(["torch", str(torch_folder), str(tmp_path / "model.pt")]) == 0
    model, other = fresh(), fresh()
    model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    state = supervisor.load_model_state(torch_folder, into=other)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
        assert torch.equal(value, other.state_dict()[key])
    bytes_of_model = sum(each.numel() * each.element_size() for each in state.values())
    assert (tmp_path / "model.pt").stat().st_size < 2 * bytes_of_model + 8192


@pytest.mark.slow
@pytest.mark.torch
def test_safetensors_loads_the_file_into_a_fresh_model(tmp_path: Path, torch_folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    assert trained.main(["safetensors", str(torch_folder), str(tmp_path / "model.safetensors")]) == 0
    model = fresh()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for key, value in supervisor.load_model_state(torch_folder).items():
        assert torch.equal(value, model.state_dict()[key])


@pytest.mark.slow
@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within Keras
def test_keras_loads_the_weights_of_a_model_that_was_given_the_state(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("keras")
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    for name, value in quiet.items():
        monkeypatch.setenv(name, value)
    folder = checkpoint_of(tmp_path, recipes()["keras"], HOME=str(tmp_path), **quiet)
    import keras
    import numpy as np

    models = []
    for _ in range(2):
        layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
        models.append(keras.Sequential([keras.Input((20,)), *layers]))
    state = supervisor.load_model_state(folder, into=models[0])
    assert "sequential/dense/kernel" in state
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    x = np.ones((4, 20), "float32")
    assert np.array_equal(models[0](x).numpy(), models[1](x).numpy())
    kernel = state["sequential/dense/kernel"].numpy()
    assert np.array_equal(models[1].layers[0].kernel.value.numpy(), kernel)
    assert trained.main(["safetensors", str(folder), str(tmp_path / "model.safetensors")]) == 0
    from safetensors.numpy import load_file

    kept = load_file(tmp_path / "model.safetensors")
    assert np.array_equal(kept["sequential/dense/kernel"], kernel)


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("", ["data", "model", "model_ema"], "model"),
        ("", ["data", "model 0"], "model 0"),
        ("net", ["net", "model"], "net"),
    ],
)
def test_the_model_is_found_by_its_name(name: str, names: list[str], found: str) -> None:
    assert trained._named(name, names) == found


@pytest.mark.parametrize(("name", "names"), [("", ["net", "data"]), ("", ["model_a", "model_b"]), ("x", ["model"])])
def test_a_model_that_is_not_told_is_asked_for(name: str, names: list[str]) -> None:
    with pytest.raises(UserError, match="checkpoint") as refused:
        trained._named(name, names)
    assert names[0] in refused.value.hint


def test_an_object_of_no_framework_is_not_given_a_state() -> None:
    with pytest.raises(UserError, match="no load_state_dict"):
        trained._put(object(), {})
