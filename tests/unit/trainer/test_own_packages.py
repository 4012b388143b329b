"""A training process without xxhash gets the supervisor's, if it is made for its Python; nothing else comes with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from supervisor.core.digest import SHA256, XXH3
from supervisor.engine import launcher, staged

ROOT = Path(__file__).resolve().parents[3]
HERE = str(Path(xxhash.__file__).parents[1])
TELL = (
    "import json, sys; from supervisor.trainer.own_packages import make_xxhash_importable as make; before = list(sys.path);"
    "make(sys.argv[1]); from supervisor.core.digest import preferred;"
    "print(json.dumps([preferred(), sys.path == before, [each for each in sys.modules if each.startswith('xxhash')]]))"
)
pytestmark = pytest.mark.slow


def told(folder: str, python: str = sys.executable) -> list:
    """Ask a Python that sees no installed package."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [python, "-S", "-c", TELL, folder], env=environ, capture_output=True, text=True, check=False, timeout=400
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def another_python() -> str:
    """Return an interpreter of another version, for which nothing of this one is made."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    named = (shutil.which(f"python3.{minor}") for minor in (12, 13))
    for python in (*sorted(versions.glob("3.1[23]*/bin/python")), *filter(None, named)):
        ask = "import sys; raise SystemExit(sys.version_info < (3, 11) or sys.argv[1] == sys.implementation.cache_tag)"
        asked = subprocess.run([python, "-c", ask, sys.implementation.cache_tag], capture_output=True, check=False)
        if asked.returncode == 0:
            return str(python)
    pytest.skip("there is no Python of another version here")


def test_it_is_loaded_from_the_folder_and_the_path_stays_as_it_was():
    algorithm, same_path, modules = told(HERE)
    assert algorithm == XXH3
    assert same_path
    assert "xxhash" in modules


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all"])
def test_without_a_folder_that_has_it_all_stays_as_it_was(folder):
    assert told(folder) == [SHA256, True, []]


@pytest.mark.parametrize("code", ["from ._xxhash import xxh3_128", "from .version import VERSION\n1 / 0", "def :"])
def test_one_that_does_not_load_leaves_no_trace(tmp_path, code):
    (tmp_path / "xxhash").mkdir()
    (tmp_path / "xxhash" / "__init__.py").write_text(code)
    (tmp_path / "xxhash" / "version.py").write_text("VERSION = '1'")
    assert told(str(tmp_path)) == [SHA256, True, []]


def test_one_made_for_another_python_is_not_used():
    assert told(HERE, another_python()) == [SHA256, True, []]


def test_the_launcher_names_the_folder_that_the_supervisor_has_it_from():
    assert launcher.own_packages() == HERE


def test_a_trainer_of_another_python_saves_with_digests_that_need_no_package_and_resumes(tmp_path):
    command = [another_python(), "-S", str(ROOT / "trainers" / "toy.py"), "--steps", "40"]
    environ = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_PACKAGES": HERE,
        "SUPERVISOR_RUN_STAGING": str(tmp_path), "SUPERVISOR_RUN_SAVE_EVERY": "20steps",
    }  # fmt: skip
    for number in (1, 2):
        ended = subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=400
        )
        assert ended.returncode == 0, ended.stderr
        assert ("resumed" in ended.stderr) == (number == 2)
    newest = max(path for path in tmp_path.iterdir() if staged.FOLDER.fullmatch(path.name))
    files = staged.prove(newest, 40).files
    assert {digest.partition(":")[0] for _, digest in files.values()} == {SHA256}
