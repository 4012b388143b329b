"""The harness's own hand on files: flush what an engine left unflushed, drop it from the page cache, count it, remove it."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES = 16 * 1024 * 1024
_C = ctypes.CDLL(None, use_errno=True)


def flush(checkpoint: Path) -> None:
    """Return when every file of the checkpoint, its folders and the folder that holds it are on the disk."""
    for path in (*_files(checkpoint), *_folders(checkpoint), checkpoint.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drop(checkpoint: Path) -> float:
    """Drop the checkpoint from the page cache; return the share of it that stayed there (0.0 is a cold checkpoint)."""
    stayed = total = 0
    for path in _files(checkpoint):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            pages = _resident(descriptor, path.stat().st_size)
        finally:
            os.close(descriptor)
        stayed += pages.count(1)
        total += len(pages)
    return stayed / max(total, 1)


def warm(checkpoint: Path) -> None:
    """Read every file once, so that the page cache has it."""
    for path in _files(checkpoint):
        with path.open("rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass


def size(checkpoint: Path) -> tuple[int, int]:
    """Return the bytes and the number of its files."""
    files = _files(checkpoint)
    return sum(path.stat().st_size for path in files), len(files)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint and wait until its space is free: what the disk does later would fall on the next measurement."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink()
    descriptor = os.open(checkpoint.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file()) if checkpoint.is_dir() else [checkpoint]


def _folders(checkpoint: Path) -> list[Path]:
    return [checkpoint, *(path for path in checkpoint.rglob("*") if path.is_dir())] if checkpoint.is_dir() else []


def _resident(descriptor: int, length: int) -> bytes:
    """Return one byte for each page of the file: 1 if it is in the page cache."""
    if length == 0:
        return b""
    pages = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
    with mmap.mmap(descriptor, length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        start = ctypes.c_char.from_buffer(view)
        _C.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(length), pages)
        del start  # because a view that is referred to cannot be closed
    return bytes(page & 1 for page in pages)
