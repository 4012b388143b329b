"""Bytes to a file and back with as little as possible between: the disk's and the memory's own speed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PAGE_BYTES = 4096
SLICE_BYTES = 16 * 1024 * 1024
DIRECT_SLICE_BYTES = 64 * 1024 * 1024
VECTORS_MAX = 512  # below the system's own limit of 1,024


def write_buffered(place: Path, chunks: Sequence[memoryview]) -> None:
    """Write through the page cache in slices of 16 MiB, and flush the file."""
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        at = 0
        for batch in _batches(chunks):
            at += _all(descriptor, batch, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_direct(place: Path, chunks: Sequence[memoryview]) -> None:
    """Write one page-aligned chunk of whole pages past the page cache, and flush the file."""
    (content,) = chunks
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_DIRECT, 0o644)
    try:
        at = 0
        while at < len(content):
            at += os.pwrite(descriptor, content[at : at + DIRECT_SLICE_BYTES], at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(place: Path, chunks: Sequence[memoryview]) -> None:
    """Read the file from its beginning into memory that is there."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at = 0
        for batch in _batches(chunks):
            wanted = sum(map(len, batch))
            got = os.preadv(descriptor, batch, at)
            while got < wanted:
                more = os.preadv(descriptor, _after(batch, got), at + got)
                if more == 0:
                    raise EOFError(f"{place} ends at {at + got}")
                got += more
            at += got
    finally:
        os.close(descriptor)


def _all(descriptor: int, batch: list[memoryview], at: int) -> int:
    wanted, done = sum(map(len, batch)), 0
    while done < wanted:
        done += os.pwritev(descriptor, _after(batch, done), at + done)
    return wanted


def _after(batch: list[memoryview], done: int) -> list[memoryview]:
    left = []
    for chunk in batch:
        if done < len(chunk):
            left.append(chunk[done:])
        done = max(0, done - len(chunk))
    return left


def _batches(chunks: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """Yield the bytes in order, at most a slice and not too many pieces at a time."""
    batch: list[memoryview] = []
    size = 0
    for chunk in chunks:
        for begin in range(0, len(chunk), SLICE_BYTES):
            piece = chunk[begin : begin + SLICE_BYTES]
            if batch and (size + len(piece) > SLICE_BYTES or len(batch) >= VECTORS_MAX):
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += len(piece)
    if batch:
        yield batch
