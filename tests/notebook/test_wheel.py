"""The wheel has all that a clone has for a user: built, installed into a fresh environment without a network, and used."""

from __future__ import annotations

import email
import json
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from supervisor import bootstrap
from supervisor.cli import shipped
from tests.notebook.machine import ROOT, NotebookMachine
from tests.wheelhouse import fill_private, offline_environ, write_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``pip wheel CLONE`` makes."""
    pytest.importorskip("setuptools", reason="setuptools is not installed: it builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    for name, path in shipped.product().items():
        (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "clone" / name)
    words = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", str(folder))
    told = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *words, str(folder / "clone")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    (made,) = folder.glob("*.whl")
    return made


class Installed:
    """A fresh virtual environment that has the wheel, and packages of our own that an installer put into the user's cache."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        python = write_interpreter(folder / "python")
        self.environ = offline_environ(folder)
        words = ("install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel))
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *words], check=True)
        self.program = python.parent / "training-supervisor"
        requirements = (ROOT / "supervisor" / "requirements.txt").read_bytes()
        private = folder / ".cache" / "training-supervisor" / bootstrap.folder_name(requirements)
        fill_private(private)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False,
            timeout=400,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_its_metadata_are_complete(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel)
    (name,) = (each for each in packed.namelist() if each.endswith(".dist-info/METADATA"))
    told = email.message_from_string(packed.read(name).decode())
    for key in ("Name", "Version", "Summary", "License-Expression", "License-File", "Requires-Python", "Keywords"):
        assert told[key], key
    assert len(told.get_all("Classifier")) > 5
    assert "training-supervisor" in told.get_payload()


def test_the_toy_that_the_wheel_brings_is_started_by_the_name_that_the_readme_has(installed: Installed) -> None:
    told = installed.run("start", "trainers/toy.py", "--", "--steps", "20")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "trainers/toy.py is not in this folder: the one that was installed runs" in told.stdout + told.stderr
    assert "20 steps done" in told.stdout + told.stderr


def test_the_example_is_importable_and_its_files_are_copied_out(installed: Installed) -> None:
    assert installed.run("examples", "copied").returncode == 0
    for name in ("trainers/hyperlpr.py", "docs/frameworks.md", "README.md"):
        assert (installed.folder / "copied" / name).read_bytes() == (ROOT / name).read_bytes()
    told = installed.run("start", "copied/trainers/absent.py")
    assert told.returncode == 2, "only shipped names are looked for in the package"


def test_the_notebook_that_the_wheel_brings_runs_with_the_wheel_alone(
    installed: Installed, wheel: Path, new_machine: Callable[..., NotebookMachine]
) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed: it runs notebooks")
    assert installed.run("examples", "for-the-notebook").returncode == 0
    notebook = installed.folder / "for-the-notebook" / shipped.NOTEBOOK
    machine = new_machine(
        KAGGLE_KERNEL_RUN_TYPE="Interactive",
        SUPERVISOR_NOTEBOOK_REPOSITORY=str(wheel),
        SUPERVISOR_NOTEBOOK_SCRIPT="trainers/toy.py",
        SUPERVISOR_NOTEBOOK_OPTIONS=f"--no-install --store {installed.folder / 'store'} -- --steps 20",
    )
    seen = machine.run_all(notebook).wait()
    assert f"from {wheel}" in seen["install"]
    assert "toy: SUCCEEDED" in seen["watch"], json.dumps(seen)
