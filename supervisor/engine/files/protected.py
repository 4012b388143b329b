"""Files of the working folder that no checkpoint replaces: code, the script, what is under version control, hidden files.

A script that names no folder has its files put back into the working folder, and a checkpoint of a shared store names them. What
Python or a shell would run from there is never taken from a store; a folder that ``--watch`` names is its user's choice.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED_PRECHECKS, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = frozenset(
    {".py", ".pyc", ".pyi", ".pyd", ".pyw", ".pyz", ".so", ".egg-link", ".sh", ".bash", ".ipynb", ".egg", ".whl"}
)
NAMES = frozenset(
    {
        "makefile", "dockerfile", "requirements.txt", "pyproject.toml", "setup.cfg", "pipfile", "pipfile.lock", "environment.yml",
        "environment.yaml", "conda.yml", "conda.yaml", "uv.lock", "uv.toml", "poetry.lock", "pylock.toml", "pip.conf",
    }
)  # fmt: skip
PATHS_MAX, WAIT_S = 2_000, 10.0


def refuse(paths: Sequence[str], root: Path, script: Path) -> None:
    """Raise UserError if one of these paths below ``root`` is protected."""
    tracked = _tracked(paths, root)
    for path in paths:
        if why := _why(path, root, script, tracked):
            folder = path.partition("/")[0] if "/" in path else "DIR"
            raise UserError(
                f"the checkpoint would replace {path!r} in the working folder, {why}",
                f"if the script itself saves it, name its folder: --watch {folder}; else start with --resume never",
                FAILED_PRECHECKS,
            )


def _why(path: str, root: Path, script: Path, tracked: frozenset[str]) -> str:
    if os.path.realpath(root / path) == os.path.realpath(script):
        return "which is the script"
    if any(part.startswith(".") for part in path.split("/")):
        return "which is a hidden file"
    name = path.rpartition("/")[2].lower()
    if name in NAMES or PurePosixPath(name).suffix in CODE:
        return "which is code"
    return "which is under version control" if path in tracked else ""


def _tracked(paths: Sequence[str], root: Path) -> frozenset[str]:
    """Return which of these paths git keeps; none where there is no git, or no answer."""
    there = [path for path in paths if (root / path).is_file()][:PATHS_MAX]
    if not there:
        return frozenset()
    command = ["git", "-C", os.fspath(root), "-c", "core.fsmonitor=false", "ls-files", "-z", "--", *there]
    try:
        told = subprocess.run(
            command, capture_output=True, timeout=WAIT_S, check=False, env={**os.environ, "GIT_LITERAL_PATHSPECS": "1"}
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(os.fsdecode(each) for each in told.split(b"\0") if each)
