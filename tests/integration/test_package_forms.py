"""Pins that differ, local projects, git addresses and builds that fail: with real installers and no network."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Record
from supervisor.core.errors import SetupError
from tests.integration.test_environments import Machine, machine, versions_seen
from tests.wheelhouse import write_wheel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["machine"]
pytestmark = pytest.mark.slow

# A build backend inside the project itself, so that a build needs no package from an index.
BACKEND = """
import zipfile
from pathlib import Path

def _write(folder, name, content):
    wheel, info = "mine-0.1-py3-none-any.whl", "mine-0.1.dist-info"
    with zipfile.ZipFile(Path(folder, wheel), "w") as archive:
        archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 0.1\\nRequires-Dist: part\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel

def build_wheel(folder, settings=None, metadata=None):
    return _write(folder, "mine.py", Path("mine.py").read_text())

def build_editable(folder, settings=None, metadata=None):
    return _write(folder, "mine.pth", str(Path.cwd()))
"""
PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mine"
version = "0.1"
dependencies = ["part"]
"""


def write_project(folder: Path, body: str = "version = 'first'\n", backend: str = BACKEND) -> Path:
    folder.mkdir(parents=True)
    for name, text in {"pyproject.toml": PROJECT, "backend.py": backend, "mine.py": body}.items():
        (folder / name).write_text(text)
    return folder


def script(folder: Path, requirements: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    (folder / "job.py").touch()
    return folder / "job.py"


def commit(folder: Path, words: str) -> str:
    git = ["git", "-C", str(folder), "-c", "user.email=a@b", "-c", "user.name=a"]
    if not (folder / ".git").exists():
        subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_pin_that_cannot_be_had_keeps_what_is_here_and_says_so_at_every_start(machine: Machine, tmp_path: Path):
    write_wheel(machine.index, "frame", "2.0")
    job = script(tmp_path / "code", "frame==2.0\ntool==0.5\npart\n")
    recorded = None
    for _ in range(2):
        prepared = machine.prepare(job, recorded)
        recorded = prepared.record
        assert machine.output(prepared, versions_seen("frame", "tool", "part")) == "2.0 1.0 1.0"
        assert prepared.unmet == ("tool==0.5 is asked for, and tool 1.0 is used",)
        assert "tool==0.5 is asked for, and tool 1.0 is used" in machine.said[-1]
    assert any("tool cannot be had in the version asked for" in words for words in machine.said)


def test_if_no_pin_can_be_had_the_job_starts_with_what_is_here(machine: Machine, tmp_path: Path):
    prepared = machine.prepare(script(tmp_path / "code", "frame==0.1\ntool==0.5\n"))
    assert prepared.python == str(machine.python)
    assert prepared.installed == ()
    assert len(prepared.unmet) == 2


def test_the_project_beside_the_script_is_installed_in_place_with_what_it_needs(machine: Machine, tmp_path: Path):
    code = write_project(tmp_path / "code")
    prepared = machine.prepare(script(code, "-e .\n"))
    assert set(prepared.installed) == {"part 1.0", "piece 1.1", "mine 0.1"}
    assert machine.output(prepared, versions_seen("mine", "part")) == "first 1.0"
    (code / "mine.py").write_text("version = 'edited'\n")
    again = machine.prepare(code / "job.py", prepared.record)
    assert again.python == prepared.python
    assert machine.output(again, versions_seen("mine")) == "edited"


def test_a_git_address_is_put_back_at_the_commit_that_was_recorded(machine: Machine, tmp_path: Path):
    source = write_project(tmp_path / "source")
    first_commit = commit(source, "first")
    job = script(tmp_path / "code", f"mine @ git+file://{source}\n")
    first = machine.prepare(job)
    (located,) = Record.from_bytes(first.record).direct
    assert (located.name, located.version, located.commit) == ("mine", "0.1", first_commit)
    (source / "mine.py").write_text("version = 'second'\n")
    commit(source, "second")
    second = Machine(tmp_path / "second", frame="1.0", tool="1.0")
    second.environ = {**machine.environ, "HOME": str(second.folder)}
    resumed = second.prepare(job, first.record, trusted=True)
    assert second.output(resumed, versions_seen("mine", "part")) == "first 1.0"


def test_a_wheel_beside_the_script_is_installed(machine: Machine, tmp_path: Path):
    write_wheel(tmp_path / "code" / "my wheels", "own", "3.0", requires=("part",))
    prepared = machine.prepare(script(tmp_path / "code", "./my wheels/own-3.0-py3-none-any.whl\n"))
    assert machine.output(prepared, versions_seen("own", "part")) == "3.0 1.0"


def test_a_package_that_does_not_build_gets_the_advice_for_a_build(machine: Machine, tmp_path: Path):
    write_project(tmp_path / "code", backend="raise RuntimeError('swig is not here')\n")
    with pytest.raises(SetupError) as refusal:
        machine.prepare(script(tmp_path / "code", "./\n"))
    assert "build" in refusal.value.what
    assert "compiler" in refusal.value.hint
    assert "connect this machine" not in refusal.value.hint
    assert "\n" not in refusal.value.what + refusal.value.hint


def test_a_build_that_fails_is_not_laid_to_a_pin_that_differs(machine: Machine, tmp_path: Path):
    write_wheel(machine.index, "frame", "2.0")
    write_project(tmp_path / "code", backend="raise RuntimeError('swig is not here')\n")
    with pytest.raises(SetupError, match="build") as refusal:
        machine.prepare(script(tmp_path / "code", "frame==2.0\n./\n"))
    assert "swig is not here" in refusal.value.what
    assert not any("cannot be had" in words for words in machine.said)


def test_a_file_with_a_hash_that_the_person_did_not_state_is_refused(machine: Machine, tmp_path: Path):
    with pytest.raises(SetupError, match="each has another hash"):
        machine.prepare(script(tmp_path / "code", f"part==1.0 --hash=sha256:{'0' * 64}\n"))
