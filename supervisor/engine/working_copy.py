"""A copy of the working folder for a rehearsal: the script reads and writes there, and nothing of the user's is changed.

A link is replaced by what it leads to, because a write through it would reach the user's files. Files over the bounds are
left out and named. Beside them only what no script needs is left out: version control, environments, caches, stores.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import UserError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FILES_MAX = 50_000
BYTES_MAX = 8 * 1024**3
ROOM_SHARE = 0.25  # of what is free on the disk: a rehearsal has one copy at a time, and its stores
LEFT_OUT = frozenset({
    ".git", ".hg", ".svn", ".supervisor", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".tox", ".nox",
})  # fmt: skip
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")  # a folder that holds one is an environment
ABSOLUTE_UPS_MAX = 2  # a path that a script makes from where its own file lies
_QUOTED_OR_BARE = re.compile(r"""'([^'\n]*/[^'\n]*)'|"([^"\n]*/[^"\n]*)"|(?<![\w./])((?:\.\./|/)[^\s'":;,()<>]+)""")
HINT = "rehearse it from a folder that has only what it needs: cd THERE, then rehearse SCRIPT"


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and which files were left out because they are too large, by their paths in the folder."""

    files: int
    bytes: int
    too_large: tuple[str, ...] = ()


def copy(folder: Path, to: Path, *, without: Collection[Path] = ()) -> Copied:
    """Make ``to`` a copy of ``folder``, ``without`` these paths. UserError for a folder with far too many files."""
    out = {os.path.realpath(each) for each in (to, *without)}
    to.mkdir(parents=True)
    found = sorted(_files(str(folder), out), key=lambda each: each[1])
    room = min(BYTES_MAX, int(ROOM_SHARE * shutil.disk_usage(to).free))
    copied = taken = 0
    too_large: list[str] = []
    for path, size in found:
        target = to / path
        if size < 0:
            target.mkdir(parents=True, exist_ok=True)
            continue
        if taken + size > room:
            too_large.append(path)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(folder / path, target)
        except FileNotFoundError:  # it went meanwhile
            continue
        except OSError as error:
            raise UserError(f"{path} cannot be copied for a rehearsal: {error.strerror}", HINT) from error
        taken += size
        copied += 1
    return Copied(copied, taken, tuple(too_large))


def _files(root: str, out: Collection[str]) -> Iterator[tuple[str, int]]:
    """Yield path and size of each file in a folder, and of each folder with -1; links are followed, circles are not."""
    count = 0
    waiting = [("", frozenset({os.path.realpath(root)}))]
    while waiting:
        inside, parents = waiting.pop()
        with os.scandir(os.path.join(root, inside)) as listed:  # noqa: PTH118
            entries = list(listed)
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            full = os.path.realpath(entry.path)
            if entry.name in LEFT_OUT or full in out or any(full.startswith(f"{each}/") for each in out):
                continue
            count += 1
            if count > FILES_MAX:
                raise UserError(f"the working folder {root} has over {FILES_MAX:,} files: too many to copy", HINT)
            if entry.is_dir():
                if full not in parents and not _is_ours_or_an_environment(Path(full)):
                    yield path, -1
                    waiting.append((path, parents | {full}))
            elif entry.is_file():
                yield path, entry.stat().st_size


def _is_ours_or_an_environment(folder: Path) -> bool:
    if any((folder / name).exists() for name in ENVIRONMENTS):
        return True
    return (folder / "run.json").is_file() and any(folder.glob("e[0-9]*-*"))  # a run in a store


def missed(printed: str, copied: Path, folder: Path) -> tuple[str, Path] | None:
    """Return the first path in a failed script's output that lies beside the working folder, and is not beside its copy.

    With it the path that it has: ``("../data/x.csv", /home/me/data/x.csv)``. None where no such path is named.
    """
    for found in _QUOTED_OR_BARE.finditer(printed):
        text = next(filter(None, found.groups()))
        inside = os.path.relpath(os.path.normpath(copied / text), copied)
        ups = Path(inside).parts.count(os.pardir)
        if not ups or (text.startswith(os.sep) and ups > ABSOLUTE_UPS_MAX):
            continue
        there = Path(os.path.normpath(folder / inside))
        if os.path.lexists(there) and not os.path.lexists(copied / inside):
            return inside, there
    return None
