"""Listing of a folder without following links: names, kinds and the marks that show a change."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.checkpoint.file_manifest import FILE, FOLDER, LINK
from supervisor.core.unmodified import file_patterns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

OTHER = "other"


class FileMark(NamedTuple):
    """One name.

    Two equal marks mean equal content, unless it was written twice within a tick of the file system's clock.
    """

    kind: str
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: tuple[int, int]
    names: int = 1
    target: str = ""


def scan(root: Path, only: Collection[str] | None = None, *, temporary: bool = False) -> dict[str, FileMark]:
    """Return the content of ``root`` by relative path; nothing for an absent root.

    A file that vanishes meanwhile is absent.

    Args:
        root: the folder.
        only: the paths to list, with their content; None for all.
        temporary: include names that are about to be renamed.
    """
    found: dict[str, FileMark] = {}
    if only is None:
        _fill(found, os.fspath(root), "", temporary=temporary)
        return found
    for path in sorted(only):
        if path in found:
            continue
        full = f"{root}/{path}"
        try:
            seen = file_mark(full, os.lstat(full))
        except OSError:
            continue
        found[path] = seen
        if seen.kind == FOLDER:
            _fill(found, full, f"{path}/", temporary=temporary)
    return found


def look(path: str) -> FileMark:
    """Return the content at one path. Raises OSError."""
    return file_mark(path, os.lstat(path))


def _fill(found: dict[str, FileMark], folder: str, above: str, *, temporary: bool) -> None:
    for entry in _entries(folder):
        if not temporary and file_patterns.is_temporary(entry.name):
            continue
        path = above + entry.name
        try:
            seen = file_mark(entry.path, entry.stat(follow_symlinks=False))
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


def file_mark(path: str, of: os.stat_result) -> FileMark:
    """Return the mark of a path from its stat result."""
    inode, mode = (of.st_dev, of.st_ino), stat.S_IMODE(of.st_mode)
    if stat.S_ISREG(of.st_mode):
        return FileMark(FILE, mode, of.st_size, of.st_mtime_ns, of.st_ctime_ns, inode, of.st_nlink)
    if stat.S_ISDIR(of.st_mode):
        return FileMark(FOLDER, mode, 0, 0, 0, inode)  # its times change with its content, which is listed itself
    if stat.S_ISLNK(of.st_mode):
        return FileMark(LINK, 0, 0, 0, 0, inode, target=os.readlink(path))  # noqa: PTH115, because a Path would change what is written in it
    return FileMark(OTHER, mode, 0, 0, 0, inode)
