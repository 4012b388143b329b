"""The trainer itself, as a person runs it: told to stop in the middle, it ends where the uninterrupted run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

TRAINER = Path(__file__).parents[3] / "trainers/hyperlpr.py"
SMALL = [
    "--plates",
    "none",
    "--rendered",
    "40",
    "--width",
    "0.125",
    "--batch",
    "4",
    "--steps",
    "80",
    "--report-every",
    "5",
]


@pytest.fixture
def start(tmp_path, fonts):
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "HYPERLPR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": paths}

    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # because torch takes ten seconds to import where it is set

    def start(folder, *arguments):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, TRAINER, *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path / folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def last_checkpoint(folder):
    return max((folder / "checkpoints/hyperlpr").glob("step-000000080-*"))


def test_a_run_stopped_in_the_middle_ends_with_the_same_bits(start, tmp_path):
    with start("whole", *SMALL) as whole:
        shown = whole.communicate()[0]
    assert whole.returncode == 0
    assert "held-out rendered plates: exact" in shown.splitlines()[-1]
    assert "no real ones found" in shown
    with start("cut", *SMALL) as cut:
        while "step 5/80" not in cut.stdout.readline():
            assert cut.poll() is None
        cut.send_signal(signal.SIGTERM)
        cut.communicate()
    assert cut.returncode == 128 + signal.SIGTERM
    with start("cut", *SMALL) as resumed:
        assert "step 5/80" not in resumed.communicate()[0]
    assert resumed.returncode == 0
    rows = [json.loads(row) for row in (last_checkpoint(tmp_path / "whole") / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(80))
    assert {"loss", "lr", "exact", "characters", "last_six"} <= rows[-1].keys()
    for file in ("state.json", "state-00000.safetensors"):
        contents = [(last_checkpoint(tmp_path / folder) / file).read_bytes() for folder in ("whole", "cut")]
        assert contents[0] == contents[1]


def test_a_missing_plate_folder_is_two_lines(start):
    with start("missing", "--plates", "nowhere") as missing:
        shown = missing.communicate()[0]
    assert missing.returncode == 3
    device, what, hint = shown.splitlines()
    assert device.startswith("device: ")
    assert "nowhere" in what
    assert hint
