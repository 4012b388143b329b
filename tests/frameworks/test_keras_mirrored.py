"""A fit under MirroredStrategy trains under the supervisor, as nobody changed it and with the callback."""

import pytest

from benchmarks.machines import ROOT, Machine

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")
pytest.importorskip("keras", reason="needs Keras 3: pip install keras")
pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPT = ROOT / "tests" / "frameworks" / "scripts" / "keras_mirrored.py"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow", "OMP_NUM_THREADS": "1"}
WAIT_S_MAX = 300


@pytest.mark.parametrize("arguments", [(), ("--callback",)], ids=["as nobody changed it", "with the callback"])
def test_a_fit_under_a_distribution_strategy_trains_and_ends(tmp_path, monkeypatch, arguments):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    machine = Machine(tmp_path / "machine", tmp_path / "store").start(
        SCRIPT, "--save-every", "3steps", arguments=arguments
    )
    assert machine.wait(WAIT_S_MAX) == 0, machine.text
    assert "steps done 18" in machine.text
    assert "cannot be followed" not in machine.text
    assert "step 18" in machine.text
