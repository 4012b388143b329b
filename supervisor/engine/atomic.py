"""Files on the local disk that are whole under their name or not there, and locks between processes.

Theory of operation. A file gets its name last: its bytes are written under a temporary name in the same folder, and
``rename`` or ``link`` gives them the final name in one step. A process that is killed leaves at most a temporary file.

What survives a power loss is another question. Without a flush a file may be empty, half or all zeros afterwards, so
its reader must take such a file for absent. ``flush=True`` has the bytes on the disk before the file gets its name.
The name itself is on the disk after ``flush_folder`` on the folder.

Callers choose what they need:

- ``replace``, ``writing``: the newest write wins. With ``unique`` two writers never share a temporary file; without it the one
  writer of a file overwrites what it was killed in, so that nothing is left to clean up.
- ``create``: the first write wins; all later ones leave the file as it is.
- ``lock``, ``is_locked``, ``hold_in_use``: locks by ``flock``. The system releases a killed process's locks. A child that
  inherits the descriptor holds the lock too.

These places do the same for themselves, for a reason: the trainer does not import the engine (``trainer/save/writer.py``);
stores raise their own errors and take faults one call at a time (``stores/local/files.py``); a mounted drive never
renames (``stores/mounted/backend.py``); files of an unmodified script are moved inside of open folders, without
following links (``engine/unmodified/restore.py``); programs that are sent to a machine alone import nothing of this package
(``fleet/provisioners/ssh/remote.py``, ``fleet/provisioners/colab/cells.py``).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE = 0o600


@contextmanager
def writing(path: Path, *, unique: bool = False, flush: bool = False, private: bool = False) -> Iterator[IO[bytes]]:
    """Yield a file to write; ``path`` is replaced by it at the end of the block, and stays as it is on an error.

    Args:
        path: the file; its folder exists.
        unique: take a temporary name that no other writer takes. A kill leaves it behind, an error does not.
        flush: have the bytes on the disk before the file gets its name.
        private: the file is readable by its owner only.

    Raises:
        OSError: the file is as it was before.
    """
    beside = path.with_name(f".new-{path.name}{f'-{os.urandom(4).hex()}' if unique else ''}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if unique else os.O_TRUNC)
    try:
        with os.fdopen(os.open(beside, flags, PRIVATE if private else 0o666), "wb") as file:
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        if unique:
            with suppress(OSError):
                beside.unlink()
        raise


def replace(path: Path, body: bytes, *, unique: bool = False, flush: bool = False, private: bool = False) -> None:
    """Write a file, or replace it. Arguments and errors are those of ``writing``."""
    with writing(path, unique=unique, flush=flush, private=private) as file:
        file.write(body)


def create(path: Path, body: bytes, *, flush: bool = False) -> None:
    """Write a private file if there is none of its name; of several processes one is first. Raises OSError."""
    beside = path.with_name(f".new-{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE), "wb") as file:
            file.write(body)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def flush_folder(folder: str | Path) -> None:
    """Make the names in a folder, and their removals, survive a power loss. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_lock(path: Path, mode: int = PRIVATE) -> int:
    """Return a descriptor of a lock's file, which is made if it is missing. The lock is not taken yet. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)


def lock(descriptor: int, *, wait: bool = False, shared: bool = False) -> bool:
    """Take a lock until the descriptor is closed; return False if another holds it. Raises OSError.

    Args:
        descriptor: the lock's file, open.
        wait: wait for its holder; the answer is then always True.
        shared: hold it together with others that hold it shared.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Return whether a process has this lock; an absent file is held by none. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not lock(descriptor)
    finally:
        os.close(descriptor)


def hold_in_use(path: Path) -> None:
    """Hold a shared lock on a file to the end of this process, so that `clean` leaves its folder; no start waits for it."""
    with suppress(OSError):  # without locks in this file system, `clean` sees the files that are mapped
        lock(os.open(path, os.O_RDONLY | os.O_CLOEXEC), shared=True)
