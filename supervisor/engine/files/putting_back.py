"""Makes a folder exactly what a snapshot holds. What differs or is not in it is moved aside, never deleted."""

from __future__ import annotations

import errno
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import fields, naming
from supervisor.core.carried import FILE, FILES_FILE, FOLDER, LINK, MODE_BITS, Carried, Entry, Piece, parse
from supervisor.core.digest import Digest, algorithm_of
from supervisor.core.values import dataclass
from supervisor.engine import staged
from supervisor.engine.files import copying, scanning
from supervisor.engine.files.below import Below, through_link
from supervisor.engine.files.copying import Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supervisor.engine.files.scanning import Seen

BESIDE = ".supervisor-{}.tmp"


@dataclass(frozen=True, slots=True)
class PutBack:
    """What was done: how many files were written, and which paths were moved aside."""

    written: int
    moved: tuple[str, ...]


def carried_in(folder: Path) -> tuple[Carried, Mapping[str, tuple[int, str]]] | None:
    """Return what files a checkpoint's folder carries, and the records of its own; None if it is of another kind.

    Raises ContentError for one that is damaged.
    """
    content = staged.content(folder)
    if FILES_FILE not in content.files:
        return None
    return parse((folder / FILES_FILE).read_bytes()), content.files


def put_back(folder: Path, carried: Carried, root: Path, aside: Path, newer: Collection[str] = ()) -> PutBack:
    """Make ``root`` what the snapshot in ``folder`` holds: all of it, or for what a framework told of, those paths alone.

    ``newer``: files that are whole and newer than it; they stay as they are.
    Every byte is measured on its way. OSError says what stands in the way; what was there is then still there, or aside.
    """
    only = None if carried.root else _told_of(carried, root)
    wanted = {entry.path: entry for entry in carried.entries}
    root.mkdir(parents=True, exist_ok=True)
    with closing(Below(root)) as below:
        there = scanning.scan(root, only, temporary=True)
        stays = {*newer, *(above for path in newer for above in _above(path))}
        right = {p for p, seen in there.items() if p in stays or _is_right(below, p, seen, wanted.get(p))}
        wrong = [path for path in there if path not in right]
        moved = tuple(_move_aside(below, path, aside) for path in sorted(_top_most(wrong)))
        missing = [entry for entry in carried.entries if entry.path not in right]
        _see_no_link(root, [entry.path for entry in carried.entries])
        for entry in sorted(missing, key=lambda each: (each.kind != FOLDER, each.path)):
            _make(folder, entry, below)
        for entry in carried.entries:
            if entry.path not in newer:
                _like(entry, below)
    return PutBack(sum(entry.kind == FILE for entry in missing), moved)


def _see_no_link(root: Path, paths: Iterable[str]) -> None:
    """Raise OSError for a path that leads through a link on this disk, before anything is written.

    ``root`` itself may be one: a person named it. A link that comes later is not gone through either: see `Below`.
    """
    for folder in sorted({above for path in paths for above in _above(path)}):
        if (root / folder).is_symlink():
            raise through_link(root, folder)


def move_changed(root: Path, first: Mapping[str, Seen], aside: Path, same: Collection[str]) -> tuple[str, ...]:
    """Move aside what has come since ``first`` or is not one of the ``same``: what a dead script left half-done."""
    there = scanning.scan(root, temporary=True)
    wrong = [path for path, seen in there.items() if path not in same and not (seen.kind == FOLDER and path in first)]
    if not wrong:
        return ()
    with closing(Below(root)) as below:
        return tuple(_move_aside(below, path, aside) for path in sorted(_top_most(wrong)))


def _told_of(carried: Carried, root: Path) -> set[str]:
    """Return the paths that belong to such a snapshot: its own, and checkpoints beside them that are named alike."""
    files = [entry.path for entry in carried.entries]
    tops = {path for path in files if not any(path.startswith(f"{other}/") for other in _parents(path, files))}
    shapes = naming.alike(tops)
    beside = {path.rpartition("/")[0] for path in tops}
    found = set(tops)
    for folder in beside:
        try:
            names = [each.name for each in (root / folder).iterdir()]
        except OSError:
            continue
        paths = (f"{folder}/{name}" if folder else name for name in names)
        found.update(path for path in paths if naming.shape_of(path) in shapes)
    return found


def _parents(path: str, known: Iterable[str]) -> set[str]:
    return _above(path).intersection(known)


def _above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:depth]) for depth in range(1, len(parts))}


def _top_most(paths: Iterable[str]) -> set[str]:
    wrong = set(paths)
    return {path for path in wrong if not _parents(path, wrong)}


def _is_right(below: Below, path: str, seen: Seen, entry: Entry | None) -> bool:
    if entry is None or entry.kind != seen.kind:
        return False
    if entry.kind == LINK:
        return entry.target == seen.target
    if entry.piece is None:
        return True
    return seen.size == entry.piece.bytes and _digest(below, path, entry.piece) == entry.piece.digest


def _digest(below: Below, path: str, piece: Piece) -> str:
    descriptor = below.open(path)
    try:
        return copying.prefix_digest(descriptor, piece.bytes, algorithm_of(piece.digest))
    finally:
        os.close(descriptor)


def _move_aside(below: Below, path: str, aside: Path) -> str:
    target = aside / path
    number = 0
    while os.path.lexists(target):
        number += 1
        target = aside / f"{path}~{number}"
    target.parent.mkdir(parents=True, exist_ok=True)
    below.move(path, target)
    return path


def _make(folder: Path, entry: Entry, below: Below) -> None:
    """Make one of the snapshot's entries; a file is whole under its name or not there."""
    if entry.kind == FOLDER:
        below.make_folder(entry.path)
        return
    with below.folder_of(entry.path, make=True) as (inside, name):
        beside = BESIDE.format(os.urandom(4).hex())
        try:
            if entry.piece is None:
                os.symlink(entry.target, beside, dir_fd=inside)
            else:
                _write(folder, entry.piece, Target(Path(beside), inside))
            os.rename(beside, name, src_dir_fd=inside, dst_dir_fd=inside)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=inside)


def _write(folder: Path, piece: Piece, target: Target) -> None:
    try:
        source = os.open(fields.into(folder, piece.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            digest = Digest(algorithm_of(piece.digest))
            copied = copying.copy(source, target, piece.bytes, at=piece.offset, digest=digest)
        finally:
            os.close(source)
    finally:
        target.close(flush=False)  # what is lost here is put back again
    if copied.digest != piece.digest:
        raise OSError(errno.EIO, "it is not what was written", os.fspath(folder / piece.name))


def _like(entry: Entry, below: Below) -> None:
    """Give it the mode and the time that it had: scripts take the newest file by its time."""
    if entry.kind == LINK:
        return
    fd = below.open(entry.path)
    try:
        os.fchmod(fd, entry.mode & MODE_BITS)
        if entry.kind == FILE:
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(fd)
