"""Nothing is left in a user's home after `clean --all` and removing the clone; nothing in use is removed before."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_bare_clone import Clone
from tests.wheelhouse import write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
# The script calls `clean` itself, while its run lives.
JOB = """# /// script
# dependencies = ["part"]
# ///
import subprocess, sys, part
told = subprocess.run([{python!r}, "-m", "supervisor", "clean", "--all", "--yes"], cwd={clone!r}, capture_output=True, text=True)
print(told.stdout, told.stderr, sep="")
import part as again
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files with a short name, because a socket's name has little room."""
    with tempfile.TemporaryDirectory(prefix="c-") as folder:
        yield Path(folder)


def test_nothing_is_left_in_the_home_and_what_a_run_uses_stays(tmp_path: Path, temporary: Path) -> None:
    clone = Clone(tmp_path)
    home = tmp_path / "home of a user"
    home.mkdir()
    (home / "mine.txt").touch()
    write_wheel(tmp_path / "index", "part", "1.0")
    clone.environ |= {"HOME": str(home), "PIP_FIND_LINKS": str(tmp_path / "index"), "TMPDIR": str(temporary)}
    clone.environ["PATH"] = "/usr/bin:/bin"  # pip asks each compiler that it finds for its version
    job = clone.folder / "my job.py"
    job.write_text(JOB.format(python=str(clone.python), clone=str(clone.folder)))
    started = clone.run("-m", "supervisor", "start", str(job))
    assert started.returncode == 0, started.stdout + started.stderr
    logs = clone.run("-m", "supervisor", "logs", "my job").stdout
    assert "stays: " in logs
    assert "/envs/" in logs.partition("stays: ")[2]
    assert (home / ".cache").is_dir()

    listed = clone.run("-m", "supervisor", "clean", "--all")
    pause = Event()
    for _ in range(100):  # what the run had started may still be ending
        if "stays: " not in listed.stdout:
            break
        pause.wait(0.1)
        listed = clone.run("-m", "supervisor", "clean", "--all")
    assert listed.returncode == 2, listed.stdout + listed.stderr
    assert "packages of a job: part" in listed.stdout
    done = clone.run("-m", "supervisor", "clean", "--all", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (clone.folder / ".supervisor").exists()
    shutil.rmtree(clone.folder)
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == [home / "mine.txt"]
    assert [path.name for path in home.iterdir() if path.name != ".cache"] == ["mine.txt"]  # nor where the key was
    assert not list((home / ".cache").iterdir())
    assert not list(temporary.iterdir())
