"""The folders are the architecture, and a tool holds it: each contract is shown to break on a planted fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAULTS = {
    "an adapter imports its sibling": ("stores/folder.py", "from supervisor.views import words", "Arrows go down only"),
    "the engine imports an adapter": ("engine/loop.py", "from supervisor.stores import folder", "Arrows go down only"),
    "the script's side imports the engine": (
        "trainer/clock.py",
        "from supervisor.engine import loop",
        "Arrows go down",
    ),
    "a new room that no layer names": ("attic.py", '"""Nobody said where this belongs."""', "Arrows go down only"),
    "the core reads a clock": ("core/interval.py", "import time", "The core is pure"),
    "the core touches the disk": ("core/claim.py", "import os", "The core is pure"),
    "the supervisor loads a framework": ("engine/staged.py", "import numpy", "Frameworks live in the training"),
    "platforms know each other": ("platforms/colab.py", "from supervisor.platforms import kaggle", "Platforms do not"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "supervisor", tmp_path / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_tree_keeps_every_contract(copy: Path) -> None:
    told = lint(copy)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 broken" in told.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_its_contract(copy: Path, fault: str) -> None:
    name, line, contract = FAULTS[fault]
    file = copy / "supervisor" / name
    text = file.read_text() if file.exists() else ""
    file.write_text(f"{text}\n{line}\n")
    told = lint(copy)
    assert told.returncode == 1, told.stdout + told.stderr
    said = " ".join((told.stdout + told.stderr).split())
    broken = said[said.index("Broken contracts") :] if "Broken contracts" in said else said
    assert contract in broken
