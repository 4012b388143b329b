"""The lock of an environment: one builder at a time."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from supervisor.engine import atomic

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


def _acquire(path: Path, say: Callable[[str], None]) -> int:
    """Return a locked descriptor of the file that has this name now: `clean` may remove the file during the wait."""
    while True:
        descriptor = atomic.open_lock(path, 0o644)
        try:
            if not atomic.lock(descriptor):
                say("waiting for another supervisor that is installing packages here")
                atomic.lock(descriptor, wait=True)
            own_stat = os.fstat(descriptor)
            with suppress(FileNotFoundError):
                path_stat = os.stat(path)  # noqa: PTH116, because it is compared with fstat
                if (path_stat.st_dev, path_stat.st_ino) == (own_stat.st_dev, own_stat.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
