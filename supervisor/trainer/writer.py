"""Writes a checkpoint's folder so that it is either whole under its final name or not there at all.

The order is: every file whole and flushed, then checkpoint.json, then the folder flushed, renamed, and its parent flushed.
A crash at any point leaves a ``.tmp-`` folder at worst, which the next life removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY = ".tmp-"

Chunks = Callable[[], Iterable[memoryview]]


def write_folder(
    staging: Path,
    name: str,
    files: Sequence[tuple[str, Chunks]],
    seal: Callable[[list[dict[str, Any]]], tuple[str, bytes]],
) -> int:
    """Write ``files`` into ``staging/name`` and return how many bytes that took.

    ``seal(records)`` gives the name and content of the file written last, from the name, bytes and digest of the others.
    OSError leaves nothing behind, as far as the disk lets us.
    """
    temporary = staging / f"{TEMPORARY}{name.removeprefix('step-')}"
    try:
        temporary.mkdir()
        records = [_write_file(temporary, file, chunks()) for file, chunks in files]
        last, content = seal(records)
        records.append(_write_file(temporary, last, [memoryview(content)]))
        _flush_folder(temporary)
        temporary.rename(staging / name)
        _flush_folder(staging)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(staging / name, ignore_errors=True)  # its name may not be flushed: it is not staged
        raise
    return sum(record["bytes"] for record in records)


def remove_leftovers(staging: Path) -> None:
    """Remove the half-written folders of earlier lives; nobody else writes there."""
    for entry in os.scandir(staging):
        if entry.name.startswith(TEMPORARY):
            shutil.rmtree(entry.path, ignore_errors=True)


def _write_file(folder: Path, name: str, chunks: Iterable[memoryview]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk)
            digest.update(chunk)
            size += len(chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"name": name, "bytes": size, "digest": f"sha256:{digest.hexdigest()}"}


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while len(chunk):
        written = os.write(descriptor, chunk)  # a full disk may take a part and say so only at the next write
        if written <= 0:
            raise OSError(errno.EIO, "the disk took nothing")
        chunk = chunk[written:]


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
