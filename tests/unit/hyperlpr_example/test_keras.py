"""The Keras example is the torch example: network, loss, looks, published weights; and its trainer survives being stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
TRAINER = CHECKOUT / "trainers/hyperlpr_keras.py"
SMALL = (
    "--plates", "none", "--rendered", "40", "--width", "0.125", "--batch", "4", "--steps", "60", "--report-every", "5",
    "--eval-every", "30",
)  # fmt: skip
HINTS = {"tensorflow": "needs TensorFlow: pip install tensorflow", "jax": "needs JAX: pip install jax keras"}

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # four starts of TensorFlow, on any machine


@pytest.fixture(params=HINTS)
def backend(request):
    for package in ("torch", "keras", request.param):
        if importlib.util.find_spec(package) is None:
            pytest.skip(HINTS.get(package, f"needs {package}"))
    return request.param


def environment(backend, **more):
    paths = os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **quiet, "KERAS_BACKEND": backend, "PYTHONPATH": paths, **more}


def measured(backend, *arguments):
    script = Path(__file__).with_name("agreement.py")
    done = subprocess.run(
        [sys.executable, script, *(arguments or ("", ""))],
        env=environment(backend), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_network_loss_and_looks_are_those_of_torch(backend):
    found = measured(backend)
    assert found["parameters"] == 2_447_700
    assert found["logits"] < 1e-3
    assert found["same_best"] == 1.0
    assert max(found["loss"], found["exact_loss"]) < 1e-6
    assert max(found["loss_gradient"], found["exact_loss_gradient"]) < 1e-6
    assert found["looks"] < 1e-4
    assert found["noise"] < 0.03
    assert found["batches"] is True


@pytest.mark.network
@pytest.mark.plates
@pytest.mark.parametrize("backend", ["tensorflow"], indirect=True)
def test_the_published_weights_say_the_same_on_real_plates(backend, real_plates):
    found = measured(backend, "published", real_plates)["published"]
    assert found["logits"] < 1e-3
    assert found["same_best"] == 1.0


@pytest.fixture
def start(tmp_path, cache, fonts):
    def start(folder, backend, *arguments):
        (tmp_path / folder).mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, TRAINER, *arguments], cwd=tmp_path / folder, text=True,
            env=environment(backend),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


@pytest.mark.parametrize("backend", ["tensorflow"], indirect=True)
def test_a_run_stopped_in_the_middle_ends_with_the_same_bits_and_its_checkpoint_reads_plates(backend, start, tmp_path):
    with start("whole", backend, *SMALL) as whole:
        shown = whole.communicate()[0]
    assert whole.returncode == 0, shown
    assert "held-out rendered plates: exact" in shown.splitlines()[-1]
    with start("cut", backend, *SMALL) as cut:
        while "step 5/60" not in (line := cut.stdout.readline()):
            assert line, cut.wait()
        cut.send_signal(signal.SIGTERM)
        cut.communicate()
    assert cut.returncode == 128 + signal.SIGTERM
    with start("cut", backend, *SMALL) as resumed:
        assert "step 5/60" not in resumed.communicate()[0]
    assert resumed.returncode == 0
    last = {folder: newest(tmp_path / folder) for folder in ("whole", "cut")}
    rows = [json.loads(row) for row in (last["whole"] / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(60))
    for file in ("state.json", "state-00000.safetensors"):
        assert (last["whole"] / file).read_bytes() == (last["cut"] / file).read_bytes()
    assert json.loads((last["cut"] / "checkpoint.json").read_text())["step"] == 60
    assert_it_reads(last["cut"], shown, tmp_path)


def newest(folder):
    return max((folder / "checkpoints/hyperlpr_keras").glob("step-000000060-*"))


def assert_it_reads(checkpoint, shown, folder):
    """The command on the checkpoint, with the trainer's own judgement as the measure."""
    from PIL import Image

    from hyperlpr_example.rendered import rendered_plates

    pictures = folder / "pictures"
    pictures.mkdir()
    plates = rendered_plates(500, seed=1)
    rows = ["file,text"]
    for index, (picture, text) in enumerate(zip(plates.pictures, plates.texts, strict=True)):
        Image.fromarray(picture[::-1].transpose(1, 2, 0)).save(pictures / f"{index}.png")
        rows.append(f"{index}.png,{text}")
    (pictures / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "hyperlpr_example", "evaluate", checkpoint, pictures, "--split", "all"],
        env=environment("tensorflow"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    judged = shown.splitlines()[-1].partition("plates: ")[2]
    assert done.stdout.splitlines()[-1].startswith(judged)
