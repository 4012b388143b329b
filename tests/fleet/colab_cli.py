"""The real google-colab-cli for tests, pinned in requirements/colab.txt, in an environment of its own because it needs Python 3.12."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from supervisor.environments import installers, locks, overlay
from supervisor.environments.port import InstallerFailed, Sources
from supervisor.environments.private import STAMP, say

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".supervisor"
LIST = ROOT / "requirements" / "colab.txt"
OLDEST = (3, 12)
NAMES = ("python3.12", "python3.13", "python3")


def colab_binary() -> Path:
    """Return the command ``colab``, made once and then found again. Skips where it cannot be had; CI fails instead."""
    python = _python()
    if python is None:
        _cannot("needs Python 3.12 or newer for google-colab-cli")
    try:
        return _made(python)
    except InstallerFailed as failure:
        _cannot(f"google-colab-cli cannot be installed: {failure.reason}")


def _made(python: str) -> Path:
    folder = HOME / "colab-cli"
    mark = f"{zlib.crc32(LIST.read_bytes()):08x} {python}"
    with locks.held(HOME / "colab-cli.lock", say) as held:
        if not (folder / STAMP).is_file() or (folder / STAMP).read_text("utf-8") != mark:
            shutil.rmtree(folder, ignore_errors=True)
            overlay.make_venv(python, folder, os.environ)
            installer = installers.choose(os.environ, HOME, say)
            installer.install(f"{folder}/bin/python", LIST, sources=Sources(keep_fd=held))
            (folder / STAMP).write_text(mark, "utf-8")
    return folder / "bin" / "colab"


def _python() -> str | None:
    """Return an interpreter that is new enough: one that answers, because a version chooser's stand-in may not run."""
    pyenv = os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")
    installed = sorted(map(str, Path(pyenv).glob("versions/3.1[2-9]*/bin/python")))
    for name in (*NAMES, *installed):
        found = shutil.which(name)
        if found is not None and _version(found) >= OLDEST:
            return found
    return None


def _version(python: str) -> tuple[int, ...]:
    script = "import sys; print(*sys.version_info[:2])"
    asked = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    return tuple(map(int, asked.stdout.split())) if asked.returncode == 0 else ()


def _cannot(why: str) -> None:
    (pytest.fail if os.environ.get("SUPERVISOR_TEST_EVERYTHING") else pytest.skip)(why)
