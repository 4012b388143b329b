"""What lies in a folder just now, without following links: names, kinds and the marks by which a change shows."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import naming
from supervisor.core.carried import FILE, FOLDER, LINK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

OTHER = "other"


class Seen(NamedTuple):
    """One name. Two equal ones are of one content, unless it was written twice within a tick of the file system's clock."""

    kind: str
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: tuple[int, int]
    names: int = 1
    target: str = ""


def scan(root: Path, only: Collection[str] | None = None, *, temporary: bool = False) -> dict[str, Seen]:
    """Return what lies under ``root`` by relative path; nothing for a root that is not there.

    ``only``: these paths and what lies in them. Names that are about to be renamed are left out, unless ``temporary``.
    What vanishes meanwhile is not there.
    """
    found: dict[str, Seen] = {}
    if only is None:
        _fill(found, os.fspath(root), "", temporary=temporary)
        return found
    for path in sorted(only):
        if path in found:
            continue
        full = f"{root}/{path}"
        try:
            seen = seen_as(full, os.lstat(full))
        except OSError:
            continue
        found[path] = seen
        if seen.kind == FOLDER:
            _fill(found, full, f"{path}/", temporary=temporary)
    return found


def look(path: str) -> Seen:
    """Return what lies under one path. Raises OSError."""
    return seen_as(path, os.lstat(path))


def _fill(found: dict[str, Seen], folder: str, above: str, *, temporary: bool) -> None:
    for entry in _entries(folder):
        if not temporary and naming.is_temporary(entry.name):
            continue
        path = above + entry.name
        try:
            seen = seen_as(entry.path, entry.stat(follow_symlinks=False))
        except OSError:
            continue
        found[path] = seen
        if seen.kind == FOLDER:
            _fill(found, entry.path, f"{path}/", temporary=temporary)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return


def seen_as(path: str, of: os.stat_result) -> Seen:
    """Return what a look at a path showed."""
    inode, mode = (of.st_dev, of.st_ino), stat.S_IMODE(of.st_mode)
    if stat.S_ISREG(of.st_mode):
        return Seen(FILE, mode, of.st_size, of.st_mtime_ns, of.st_ctime_ns, inode, of.st_nlink)
    if stat.S_ISDIR(of.st_mode):
        return Seen(FOLDER, mode, 0, 0, 0, inode)  # its times change with what lies in it, which is looked at itself
    if stat.S_ISLNK(of.st_mode):
        return Seen(LINK, 0, 0, 0, 0, inode, target=os.readlink(path))  # noqa: PTH115, because a Path would change what is written in it
    return Seen(OTHER, mode, 0, 0, 0, inode)
