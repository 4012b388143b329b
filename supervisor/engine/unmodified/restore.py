"""Makes a folder equal to a snapshot. Other files are moved aside, never deleted."""

from __future__ import annotations

import errno
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.file_manifest import (
    FILE,
    FILES_FILE,
    FOLDER,
    LINK,
    MODE_BITS,
    FileExtent,
    FileManifest,
    FileRow,
    parse,
)
from supervisor.core.digest import Digest, algorithm_of
from supervisor.core.frozen import dataclass
from supervisor.core.unmodified import file_patterns
from supervisor.core.wire import fields
from supervisor.engine.file_watch import scan as folder_scan
from supervisor.engine.file_watch import stable_copy
from supervisor.engine.file_watch.stable_copy import CopyTarget
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.unmodified.dir_fd import Below, link_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supervisor.engine.file_watch.scan import FileMark

BESIDE = ".supervisor-{}.tmp"


@dataclass(frozen=True, slots=True)
class RestoredFolder:
    """Result: the number of files written, and the paths moved aside."""

    written: int
    moved: tuple[str, ...]


def file_manifest_in(folder: Path) -> tuple[FileManifest, Mapping[str, tuple[int, str]]] | None:
    """Return the file manifest of a checkpoint's folder and its own records; None for another kind of checkpoint.

    Raises ContentError for a damaged one.
    """
    content = staged_checkpoints.content(folder)
    if FILES_FILE not in content.files:
        return None
    return parse((folder / FILES_FILE).read_bytes()), content.files


def restore_files(
    folder: Path, carried: FileManifest, root: Path, aside: Path, newer: Collection[str] = ()
) -> RestoredFolder:
    """Make ``root`` equal to the snapshot in ``folder``: all of it, or only the reported paths of a framework.

    Each byte is verified during the copy. An OSError names the obstacle; the earlier files are then still in place, or
    aside.

    Args:
        folder: folder of the snapshot.
        carried: its file manifest.
        root: the folder to restore.
        aside: folder for files moved aside.
        newer: complete files newer than the snapshot; they stay.
    """
    only = None if carried.root else _paths_of_snapshot(carried, root)
    wanted = {entry.path: entry for entry in carried.entries}
    root.mkdir(parents=True, exist_ok=True)
    with closing(Below(root)) as below:
        there = folder_scan.scan(root, only, temporary=True)
        stays = {*newer, *(above for path in newer for above in _above(path))}
        right = {p for p, seen in there.items() if p in stays or _is_right(below, p, seen, wanted.get(p))}
        wrong = [path for path in there if path not in right]
        moved = tuple(_move_aside(below, path, aside) for path in sorted(_outermost(wrong)))
        missing = [entry for entry in carried.entries if entry.path not in right]
        _require_no_link(root, [entry.path for entry in carried.entries])
        for entry in sorted(missing, key=lambda each: (each.kind != FOLDER, each.path)):
            _make(folder, entry, below)
        for entry in carried.entries:
            if entry.path not in newer:
                _restore_metadata(entry, below)
    return RestoredFolder(sum(entry.kind == FILE for entry in missing), moved)


def _require_no_link(root: Path, paths: Iterable[str]) -> None:
    """Raise OSError for a path that leads through a link, before any write.

    ``root`` itself may be a link, because the user named it. A link made later is not followed either: see `Below`.
    """
    for folder in sorted({above for path in paths for above in _above(path)}):
        if (root / folder).is_symlink():
            raise link_error(root, folder)


def move_changed(root: Path, first: Mapping[str, FileMark], aside: Path, same: Collection[str]) -> tuple[str, ...]:
    """Move aside the files that came after ``first`` or are not among ``same``: partial output of a dead script."""
    there = folder_scan.scan(root, temporary=True)
    wrong = [path for path, seen in there.items() if path not in same and not (seen.kind == FOLDER and path in first)]
    if not wrong:
        return ()
    with closing(Below(root)) as below:
        return tuple(_move_aside(below, path, aside) for path in sorted(_outermost(wrong)))


def _paths_of_snapshot(carried: FileManifest, root: Path) -> set[str]:
    """Return the paths of such a snapshot: its own, and similarly named checkpoints beside them."""
    files = [entry.path for entry in carried.entries]
    tops = {path for path in files if not any(path.startswith(f"{other}/") for other in _parents(path, files))}
    shapes = file_patterns.same_pattern(tops)
    beside = {path.rpartition("/")[0] for path in tops}
    found = set(tops)
    for folder in beside:
        try:
            names = [each.name for each in (root / folder).iterdir()]
        except OSError:
            continue
        paths = (f"{folder}/{name}" if folder else name for name in names)
        found.update(path for path in paths if file_patterns.shape_of(path) in shapes)
    return found


def _parents(path: str, known: Iterable[str]) -> set[str]:
    return _above(path).intersection(known)


def _above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:depth]) for depth in range(1, len(parts))}


def _outermost(paths: Iterable[str]) -> set[str]:
    wrong = set(paths)
    return {path for path in wrong if not _parents(path, wrong)}


def _is_right(below: Below, path: str, seen: FileMark, entry: FileRow | None) -> bool:
    if entry is None or entry.kind != seen.kind:
        return False
    if entry.kind == LINK:
        return entry.target == seen.target
    if entry.piece is None:
        return True
    return seen.size == entry.piece.bytes and _digest(below, path, entry.piece) == entry.piece.digest


def _digest(below: Below, path: str, piece: FileExtent) -> str:
    descriptor = below.open(path)
    try:
        return stable_copy.prefix_digest(descriptor, piece.bytes, algorithm_of(piece.digest))
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


def _make(folder: Path, entry: FileRow, below: Below) -> None:
    """Make one entry of the snapshot; a file is complete under its name or absent."""
    if entry.kind == FOLDER:
        below.make_folder(entry.path)
        return
    with below.open_parent(entry.path, make=True) as (inside, name):
        beside = BESIDE.format(os.urandom(4).hex())
        try:
            if entry.piece is None:
                os.symlink(entry.target, beside, dir_fd=inside)
            else:
                _write(folder, entry.piece, CopyTarget(Path(beside), inside))
            os.rename(beside, name, src_dir_fd=inside, dst_dir_fd=inside)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=inside)


def _write(folder: Path, piece: FileExtent, target: CopyTarget) -> None:
    try:
        source = os.open(fields.into(folder, piece.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            digest = Digest(algorithm_of(piece.digest))
            copied = stable_copy.copy(source, target, piece.bytes, at=piece.offset, digest=digest)
        finally:
            os.close(source)
    finally:
        target.close(flush=False)  # after a power loss it is restored again
    if copied.digest != piece.digest:
        raise OSError(errno.EIO, "it is not what was written", os.fspath(folder / piece.name))


def _restore_metadata(entry: FileRow, below: Below) -> None:
    """Restore mode and time: scripts choose the newest file by its time."""
    if entry.kind == LINK:
        return
    fd = below.open(entry.path)
    try:
        os.fchmod(fd, entry.mode & MODE_BITS)
        if entry.kind == FILE:
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(fd)
