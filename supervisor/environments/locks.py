"""One builder at a time, and a sign that an environment is in use: file locks that a killed process gives back by itself."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def held(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold `path` locked; yields the descriptor. Waits for another holder, after saying so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(path, say)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def hold_in_use(path: Path) -> None:
    """Say by a shared lock on the file `path`, which this process keeps to its end, that its folder is in use.

    It is for `clean`, and no start waits for it.
    """
    with suppress(OSError):  # without locks in this file system, what is mapped tells it
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _locked(path: Path, say: Callable[[str], None]) -> int:
    """Return a descriptor of the file that has this name when it is locked: `clean` may remove it while we wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another supervisor that is installing packages here")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            mine = os.fstat(descriptor)
            with suppress(FileNotFoundError):
                there = os.stat(path)  # noqa: PTH116, because it is compared with fstat
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
