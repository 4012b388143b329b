"""Reads the tensors of a checkpoint straight to where they belong, verifying every byte on the way.

Each file is read once, in slices that are hashed while they are still in the processor's cache: two files at a time if they
are in memory, one after the other if they are not, because a disk is fastest with one stream (``python -m benchmarks.checkpoint``).
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import safetensors_file
from supervisor.core.digest import Digest, algorithm_of
from supervisor.trainer.frameworks.framework import HostTarget
from supervisor.trainer.threads import started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.trainer.frameworks.framework import Target

SLICE_BYTES = 1024 * 1024
ROOMS_MAX = 512  # of one system call
READERS_MAX = 2
PROBES = 8


class DamageError(Exception):
    """A file of a checkpoint is missing, or is not what was written."""


class File(NamedTuple):
    """A file as checkpoint.json promises it."""

    path: Path
    bytes: int
    digest: str


class Extent(NamedTuple):
    """``bytes`` of a leaf, from its byte ``first`` on, lie at ``begin`` of a file."""

    file: File
    begin: int
    bytes: int
    first: int


class _Span(NamedTuple):
    """The bytes [begin, begin + bytes) of a file and where they go; None: they are only verified."""

    begin: int
    bytes: int
    target: Target | None
    first: int


def content(file: File) -> bytes:
    """Return all verified bytes of a small file."""
    whole = bytearray(file.bytes)
    _read_file(file, [_Span(0, file.bytes, HostTarget(memoryview(whole), lambda: None), 0)])
    return bytes(whole)


def located(files: Iterable[File], split: Mapping[str, Sequence[str]]) -> dict[str, list[Extent]]:
    """Return where each leaf lies, by the headers of the safetensors files, which are not verified yet."""
    parts: dict[str, Extent] = {}
    for file in files:
        try:
            parts |= _entries(file)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamageError(f"{file.path.name} cannot be read: {error}") from error
    found: dict[str, list[Extent]] = {}
    for leaf, names in split.items():
        first = 0
        for name in names:
            if name not in parts:
                raise DamageError(f"tensor {name} is in none of its files")
            part = parts.pop(name)
            found.setdefault(leaf, []).append(Extent(part.file, part.begin, part.bytes, first))
            first += part.bytes
    return found | {name: [part] for name, part in parts.items()}


def fill(files: Sequence[File], wanted: Iterable[tuple[Extent, Target]]) -> None:
    """Read the files whole and put what is wanted into its targets; DamageError if a file is not what was promised.

    After an error the targets hold bytes that mean nothing.
    """
    spans: dict[Path, list[_Span]] = {file.path: [] for file in files}
    shared: dict[Extent, list[Target]] = {}
    for extent, target in wanted:
        shared.setdefault(extent, []).append(target)
    for extent, targets in shared.items():
        target = targets[0] if len(targets) == 1 else _Several(targets)
        spans[extent.file.path].append(_Span(extent.begin, extent.bytes, target, extent.first))
    work = iter(files)
    failed: list[BaseException] = []
    readers = min(READERS_MAX, len(files), len(os.sched_getaffinity(0))) if all(map(_is_in_memory, files)) else 1
    beside = [started(lambda: _read_files(work, spans, failed), "supervisor-reader") for _ in range(readers - 1)]
    _read_files(work, spans, failed)
    for thread in filter(None, beside):
        thread.join()
    if failed:
        raise failed[0]


def _is_in_memory(file: File) -> bool:
    """Say whether a file is in the page cache, by a few of its bytes; where that cannot be asked it counts as not."""
    probe = bytearray(1)
    with suppress(OSError, DamageError, AttributeError), _opened(file) as descriptor:
        for number in range(PROBES):
            os.preadv(descriptor, [probe], number * file.bytes // PROBES, os.RWF_NOWAIT)
        return True
    return False


class _Several:
    """The same bytes for several targets."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._first, *self._others = targets
        self._room = memoryview(b"")

    def room(self, begin: int, count: int) -> memoryview:
        self._room = self._first.room(begin, count)
        return self._room

    def took(self, begin: int, count: int) -> None:
        for other in self._others:
            other.room(begin, count)[:] = self._room
            other.took(begin, count)
        self._first.took(begin, count)

    def value(self) -> None:
        """Nobody asks: each of the targets has its own."""


def _read_files(work: Iterator[File], spans: Mapping[Path, list[_Span]], failed: list[BaseException]) -> None:
    try:
        for file in work:
            if not failed:
                _read_file(file, spans[file.path])
    except BaseException as error:  # noqa: BLE001  # because it may be on a thread of ours: the one who asked raises it
        failed.append(error)


def _read_file(file: File, wanted: list[_Span]) -> None:
    digest = Digest(algorithm_of(file.digest))
    scratch = memoryview(bytearray(SLICE_BYTES))
    with _opened(file) as descriptor:
        for group in _grouped(_covering(file.bytes, wanted)):
            rooms = [
                span.target.room(span.first, span.bytes) if span.target else scratch[: span.bytes] for span in group
            ]
            _read_rooms(file, descriptor, rooms, group[0].begin)
            for span, room in zip(group, rooms, strict=True):
                digest.update(room)
                if span.target:
                    span.target.took(span.first, span.bytes)
        longer = os.pread(descriptor, 1, file.bytes)
    if longer:
        raise DamageError(f"{file.path.name} is not {file.bytes} bytes long")
    if str(digest) != file.digest:
        raise DamageError(f"{file.path.name} is not what was written: its digest differs")


def _covering(size: int, wanted: list[_Span]) -> Iterator[_Span]:
    """Yield slices that cover a file without a gap, as digests need it."""
    at = 0
    for span in sorted(wanted, key=lambda each: (each.begin, each.bytes)):  # one without bytes first
        yield from _sliced(_Span(at, span.begin - at, None, 0))
        yield from _sliced(span)
        at = span.begin + span.bytes
    yield from _sliced(_Span(at, size - at, None, 0))


def _sliced(span: _Span) -> Iterator[_Span]:
    for begin in range(0, span.bytes, SLICE_BYTES):
        count = min(SLICE_BYTES, span.bytes - begin)
        yield _Span(span.begin + begin, count, span.target, span.first + begin)


def _grouped(spans: Iterator[_Span]) -> Iterator[list[_Span]]:
    """Yield what one system call reads: a large slice, or many small ones; the scratch memory serves one at a time."""
    group: list[_Span] = []
    size = 0
    for span in spans:
        if group and (size + span.bytes > SLICE_BYTES or len(group) == ROOMS_MAX or span.target is None):
            yield group
            group, size = [], 0
        group.append(span)
        size += span.bytes
    if group:
        yield group


def _read_rooms(file: File, descriptor: int, rooms: list[memoryview], begin: int) -> None:
    done, total = os.preadv(descriptor, rooms, begin), sum(map(len, rooms))
    while done < total:
        rest, skip = [], done
        for room in rooms:
            rest += [room[skip:]] if skip < len(room) else []
            skip = max(0, skip - len(room))
        count = os.preadv(descriptor, rest, begin + done)
        if count == 0:
            raise DamageError(f"{file.path.name} is not {file.bytes} bytes long")
        done += count


@contextmanager
def _opened(file: File) -> Iterator[int]:
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DamageError(f"{file.path.name} is missing") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entries(file: File) -> dict[str, Extent]:
    with _opened(file) as descriptor:
        before = safetensors_file.header_bytes(os.pread(descriptor, safetensors_file.LENGTH_BYTES, 0), file.bytes)
        header = os.pread(descriptor, before, 0)
    entries = safetensors_file.entries(header, file.bytes)
    return {entry.name: Extent(file, before + entry.begin, entry.bytes, 0) for entry in entries}
