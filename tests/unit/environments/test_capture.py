"""What a machine has is told from names and small files."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from supervisor.core.errors import SetupError
from supervisor.environments import capture

if TYPE_CHECKING:
    from pathlib import Path


def test_distributions_are_told_from_folder_names(tmp_path: Path):
    for name in ("Typing_Extensions-4.15.0.dist-info", "torch-2.11.0+cu128.dist-info", "old-1.0-py3.11.egg-info", "~orch-1.dist-info",
                 "numpy", "README"):  # fmt: skip
        (tmp_path / name).mkdir()
    assert capture.distributions([str(tmp_path)]) == {
        "old": "1.0",
        "torch": "2.11.0+cu128",
        "typing-extensions": "4.15.0",
    }


def test_the_first_folder_on_the_path_counts(tmp_path: Path):
    for folder, version in (("overlay", "2"), ("machine", "1")):
        (tmp_path / folder / f"rich-{version}.dist-info").mkdir(parents=True)
    folders = [str(tmp_path / "gone"), str(tmp_path / "overlay"), str(tmp_path / "machine")]
    assert capture.distributions(folders) == {"rich": "2"}


def test_an_interpreter_is_asked_once_until_it_changes(tmp_path: Path):
    program = tmp_path / "python"
    asked = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho asked >> {asked}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    first = capture.interpreter(str(program), tmp_path / "home", os.environ)
    assert capture.interpreter(str(program), tmp_path / "home", os.environ) == first
    assert asked.read_text().count("asked") == 1
    program.write_text(program.read_text() + "\n")
    capture.interpreter(str(program), tmp_path / "home", os.environ)
    assert asked.read_text().count("asked") == 2


def test_the_running_interpreter_is_described_as_it_is(tmp_path: Path):
    chosen = capture.interpreter(sys.executable, tmp_path, os.environ)
    assert chosen.executable == sys.executable
    assert chosen.python == ".".join(map(str, sys.version_info[:3]))
    assert sysconfig.get_path("purelib") in chosen.folders
    assert sysconfig.get_path("stdlib") not in chosen.folders
    assert capture.found(chosen, os.environ).distributions.keys() >= {"pytest", "packaging"}


def test_packages_named_by_pythonpath_count_as_there_but_are_not_laid_under_an_overlay(tmp_path: Path):
    (tmp_path / "given" / "thing-1.0.dist-info").mkdir(parents=True)
    environ = dict(os.environ) | {"PYTHONPATH": str(tmp_path / "given")}
    chosen = capture.interpreter(sys.executable, tmp_path / "home", environ)
    assert capture.found(chosen, environ).distributions["thing"] == "1.0"
    assert str(tmp_path / "given") not in chosen.folders


def test_a_kept_answer_cut_short_is_asked_for_again(tmp_path: Path):
    whole = capture.interpreter(sys.executable, tmp_path, os.environ)
    (kept,) = (tmp_path / "interpreters").glob("*.json")
    kept.write_bytes(kept.read_bytes()[:40])
    assert capture.interpreter(sys.executable, tmp_path, os.environ) == whole


@pytest.mark.parametrize("python", ["no-such-python", "/bin/true"])
def test_what_is_no_python_is_named(tmp_path: Path, python: str):
    with pytest.raises(SetupError, match="is not a Python that runs"):
        capture.interpreter(python, tmp_path, os.environ)


def test_the_image_is_named_where_the_host_names_it(tmp_path: Path):
    environ = dict(os.environ) | {"COLAB_RELEASE_TAG": "release-colab-2026"}
    assert capture.found(capture.interpreter(sys.executable, tmp_path, environ), environ).image == "release-colab-2026"
