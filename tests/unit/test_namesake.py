"""Supervisord of the package index shares our package's name: what it breaks is said in two lines, in every order of installation."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPAIR = "-m pip install --force-reinstall --no-deps '/a b/clone'"


class Environment:
    """A folder of installed packages, with ours as an installer leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.packages = folder, folder / "site-packages"
        self.ours = self.packages / "supervisor" / "__init__.py"
        shutil.copytree(ROOT / "supervisor", self.packages / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
        info = self.packages / "training_supervisor-0.1.0.dist-info"
        info.mkdir()
        (info / "direct_url.json").write_text(json.dumps({"url": "file:///a b/clone"}))

    def install_supervisord(self, into: Path | None = None, *, last: bool) -> None:
        folder = into or self.packages
        (folder / "supervisor-4.2.5.dist-info").mkdir(parents=True)
        (folder / "supervisor").mkdir(exist_ok=True)
        (folder / "supervisor" / "supervisord.py").write_text("def main(): pass\n")
        if last:
            (folder / "supervisor" / "__init__.py").write_text("#\n")

    def uninstall_supervisord(self) -> None:
        (self.packages / "supervisor" / "supervisord.py").unlink()
        self.ours.unlink()

    def run(self, *words: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        environ = {"PYTHONPATH": ":".join(map(str, (self.packages, *path))), "HOME": str(self.folder), "PATH": ""}
        return subprocess.run(
            [sys.executable, *words], env=environ, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def doctor(self, path: tuple[Path, ...] = ()) -> list[str]:
        """Return what doctor says of supervisord."""
        code = "from supervisor.cli.doctor import _namesake\nfor each in _namesake(): print(each.level, each.words, each.hint, sep='\\n')"
        return self.run("-c", code, path=path).stdout.splitlines()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def two(text: str) -> tuple[str, str]:
    what, hint = text.splitlines()
    assert hint.startswith("  try: ")
    return what, hint


def test_nothing_is_said_where_supervisord_is_not(environment: Environment) -> None:
    told = environment.run("-c", "import supervisor")
    assert (told.returncode, told.stderr) == (0, "")
    assert environment.doctor() == []


def test_supervisord_installed_first_is_said_at_the_import_and_by_doctor(environment: Environment) -> None:
    environment.install_supervisord(last=False)
    told = environment.run("-c", "import supervisor; supervisor.attach")
    assert told.returncode == 0, "it works as long as neither is removed"
    what, hint = two(told.stderr)
    assert "supervisor 4.2.5 (supervisord) is installed into the same folder" in what
    assert REPAIR in hint
    level, words, _ = environment.doctor()
    assert level == "warning"
    assert words in what


def test_a_process_that_a_command_started_does_not_say_it_again(environment: Environment) -> None:
    environment.install_supervisord(last=False)
    code = "import os; os.environ['SUPERVISOR_RUN_CALLED_AS'] = 'x'; import supervisor"
    assert environment.run("-c", code).stderr == ""


def test_supervisord_installed_last_is_said_by_every_command(environment: Environment) -> None:
    environment.install_supervisord(last=True)
    for verb in (["status"], ["--version"], ["start", "train.py"]):
        told = environment.run("-m", "supervisor", *verb)
        assert told.returncode == 3
        what, hint = two(told.stderr)
        assert "__init__.py was replaced by the package supervisor 4.2.5 (supervisord)" in what
        assert REPAIR in hint
    assert environment.doctor()[0] == "problem"


def test_after_supervisord_is_uninstalled_every_command_says_how_to_repair(environment: Environment) -> None:
    environment.install_supervisord(last=True)
    environment.uninstall_supervisord()
    told = environment.run("-c", "from supervisor.__main__ import main; raise SystemExit(main())")
    assert told.returncode == 3, "the console script's way in"
    what, hint = two(told.stderr)
    assert "__init__.py is gone: uninstalling the package supervisor (supervisord) removes it" in what
    command = hint.partition("`")[2].rpartition("`")[0]
    assert shlex.split(command)[-1] == "/a b/clone"
    assert environment.doctor()[0] == "problem"


def test_supervisord_in_another_folder_is_said_by_doctor_only(environment: Environment, tmp_path: Path) -> None:
    other = tmp_path / "other"
    environment.install_supervisord(other, last=True)
    assert environment.run("-c", "import supervisor", path=(other,)).stderr == ""
    level, words, hint = environment.doctor(path=(other,))
    assert level == "warning"
    assert f"(supervisord) is in {other}" in words
    assert f"PYTHONPATH={environment.packages}" in hint
