"""Copies files that somebody may write into: of one moment, measured on the way, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest, preferred
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 4 * 1024 * 1024
LAST_LINE_BYTES = 64 * 1024
FICLONE = 0x40049409


class ChangedMeanwhile(Exception):  # noqa: N818, because it is a verdict on the file
    """The file is not what it was when it was looked at: the copy is of no one moment."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: its length and digest."""

    bytes: int
    digest: str


class Target:
    """A new file that is being written: chunk after chunk, then flushed."""

    def __init__(self, path: Path, folder: int | None = None) -> None:
        """Begin it. ``folder``: the open folder that a relative ``path`` is in."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        self.bytes = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a chunk, all of it."""
        view = memoryview(chunk)
        self.bytes += len(view)
        while view:
            written = os.write(self.descriptor, view)  # a full disk may take a part and say so only at the next write
            if written <= 0:
                raise OSError(errno.EIO, "the disk took nothing", str(self.path))
            view = view[written:]

    def close(self, *, flush: bool = True) -> None:
        """Close it; the file is then on the disk if ``flush``."""
        try:
            if flush:
                os.fsync(self.descriptor)
        finally:
            os.close(self.descriptor)


def open_still(path: str, wanted: tuple[int, int]) -> int:
    """Open a file that was looked at, without following a link. ChangedMeanwhile if it is another, or none, by now."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ChangedMeanwhile(path) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ChangedMeanwhile(path) from error
        raise
    of = os.fstat(source)
    if not stat.S_ISREG(of.st_mode) or (of.st_dev, of.st_ino) != wanted:
        os.close(source)
        raise ChangedMeanwhile(path)
    return source


def copy(source: int, target: Target, length: int, *, at: int | None = None, digest: Digest | None = None) -> Copied:
    """Append ``length`` bytes of an open file to the target, from its beginning or ``at``. ChangedMeanwhile if it has fewer."""
    digest = digest or Digest(preferred())
    begin = target.bytes
    if at is None and begin == 0 and _cloned(source, target.descriptor):
        _measure_clone(target, length, digest)
    else:
        for chunk in _chunks(source, length, at or 0):
            digest.update(chunk)
            target.write(chunk)
    if target.bytes - begin != length:
        raise ChangedMeanwhile(str(target.path))
    return Copied(length, str(digest))


def prefix_digest(source: int, length: int, algorithm: str) -> str:
    """Return the digest of the first ``length`` bytes."""
    digest = Digest(algorithm)
    for chunk in _chunks(source, length, 0):
        digest.update(chunk)
    return str(digest)


def whole_lines(source: int, length: int) -> int:
    """Return how many of the first ``length`` bytes are whole lines; all of them where no line ends near their end."""
    begin = max(0, length - LAST_LINE_BYTES)
    end = os.pread(source, length - begin, begin).rfind(b"\n")
    return length if end < 0 else begin + end + 1


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _chunks(source: int, length: int, at: int) -> Iterator[bytes]:
    end = at + length
    while at < end and (chunk := os.pread(source, min(CHUNK_BYTES, end - at), at)):
        yield chunk
        at += len(chunk)


def _cloned(source: int, target: int) -> bool:
    """Share the blocks of a file, where the file system can: such a copy is of one moment by itself."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def _measure_clone(target: Target, length: int, digest: Digest) -> None:
    if os.fstat(target.descriptor).st_size < length:
        raise ChangedMeanwhile(str(target.path))
    os.ftruncate(target.descriptor, length)
    for chunk in _chunks(target.descriptor, length, 0):
        digest.update(chunk)
        target.bytes += len(chunk)
