"""Copies files that other processes may write: the copy shows one moment and is measured, or fails."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest, preferred
from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 4 * 1024 * 1024
LAST_LINE_BYTES = 64 * 1024
FICLONE = 0x40049409


class ChangedMeanwhile(Exception):  # noqa: N818, because it is a verdict on the file
    """The file has changed since its scan: the copy would mix two states."""


@dataclass(frozen=True, slots=True)
class StableCopy:
    """Length and digest of a copy."""

    bytes: int
    digest: str


class CopyTarget:
    """A new file in progress: written chunk by chunk, then flushed."""

    def __init__(self, path: Path, folder: int | None = None) -> None:
        """Create the file. ``folder``: the open folder of a relative ``path``."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        self.bytes = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a chunk completely."""
        view = memoryview(chunk)
        self.bytes += len(view)
        while view:
            written = os.write(self.descriptor, view)  # a full disk may accept a part and fail only at the next write
            if written <= 0:
                raise OSError(errno.EIO, "the disk took nothing", str(self.path))
            view = view[written:]

    def close(self, *, flush: bool = True) -> None:
        """Close the file; with ``flush`` it is on the disk then."""
        try:
            if flush:
                os.fsync(self.descriptor)
        finally:
            os.close(self.descriptor)


def open_unchanged(path: str, wanted: tuple[int, int]) -> int:
    """Open a scanned file without following a link. Raises ChangedMeanwhile if it was replaced or removed."""
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


def copy(
    source: int, target: CopyTarget, length: int, *, at: int | None = None, digest: Digest | None = None
) -> StableCopy:
    """Append ``length`` bytes of an open file to the target, from ``at``. Raises ChangedMeanwhile if it has fewer."""
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
    return StableCopy(length, str(digest))


def prefix_digest(source: int, length: int, algorithm: str) -> str:
    """Return the digest of the first ``length`` bytes."""
    digest = Digest(algorithm)
    for chunk in _chunks(source, length, 0):
        digest.update(chunk)
    return str(digest)


def whole_lines(source: int, length: int) -> int:
    """Return how many of the first ``length`` bytes are complete lines; all if no line ends near their end."""
    begin = max(0, length - LAST_LINE_BYTES)
    end = os.pread(source, length - begin, begin).rfind(b"\n")
    return length if end < 0 else begin + end + 1


def _chunks(source: int, length: int, at: int) -> Iterator[bytes]:
    end = at + length
    while at < end and (chunk := os.pread(source, min(CHUNK_BYTES, end - at), at)):
        yield chunk
        at += len(chunk)


def _cloned(source: int, target: int) -> bool:
    """Share the blocks of a file if the file system can: such a copy shows one moment by itself."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def _measure_clone(target: CopyTarget, length: int, digest: Digest) -> None:
    if os.fstat(target.descriptor).st_size < length:
        raise ChangedMeanwhile(str(target.path))
    os.ftruncate(target.descriptor, length)
    for chunk in _chunks(target.descriptor, length, 0):
        digest.update(chunk)
        target.bytes += len(chunk)
