"""File locks: one builder at a time, and a mark on environments in use.

The system releases a killed process's locks.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold an exclusive lock on ``path`` and yield the descriptor.

    It tells the user before it waits for another holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, say)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def mark_in_use(path: Path) -> None:
    """Mark a folder as in use: hold a shared lock on its file ``path`` until this process exits.

    Only `clean` respects the lock; no start waits for it.
    """
    with suppress(OSError):  # without locks in this file system, `clean` sees the mapped files
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _acquire(path: Path, say: Callable[[str], None]) -> int:
    """Return a locked descriptor of the file that has this name now: `clean` may remove the file during the wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another supervisor that is installing packages here")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            own_stat = os.fstat(descriptor)
            with suppress(FileNotFoundError):
                path_stat = os.stat(path)  # noqa: PTH116, because it is compared with fstat
                if (path_stat.st_dev, path_stat.st_ino) == (own_stat.st_dev, own_stat.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
