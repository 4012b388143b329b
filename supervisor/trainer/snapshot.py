"""Copies the leaves of a state into one kept host buffer, laid out as the files will be, so that training may go on."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass
from supervisor.trainer import safetensors_file
from supervisor.trainer.memory import has_room_for
from supervisor.trainer.safetensors_file import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.trainer.leaf import Leaf

PIECE_BYTES_MAX = 256_000_000
SLICE_BYTES = 8 * 1024 * 1024
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """``bytes`` of a leaf, from its item ``first`` on, at ``begin`` of a piece."""

    leaf: Leaf
    first: int
    begin: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One safetensors file to be: its header, and the parts that follow it."""

    name: str
    header: bytes
    parts: tuple[Part, ...]
    bytes: int
    at: int  # where its bytes begin in the kept buffer


def plan(
    leaves: Mapping[str, Leaf], piece_bytes_max: int = PIECE_BYTES_MAX
) -> tuple[list[Piece], dict[str, list[str]]]:
    """Return the pieces, and for each leaf that is larger than a piece the names of its parts in order.

    The widest items come first, so that every tensor is aligned to its own items without a gap.
    """
    pieces: list[Piece] = []
    split: dict[str, list[str]] = {}
    open_parts: list[tuple[Entry, Part]] = []
    used = 0
    for name, leaf in sorted(leaves.items(), key=lambda item: -item[1].item_bytes):
        for part_name, shape, first, size in _cut(name, leaf, piece_bytes_max, split):
            if open_parts and used + size > piece_bytes_max:
                pieces.append(_piece(pieces, open_parts, used))
                open_parts, used = [], 0
            open_parts.append((Entry(part_name, leaf.dtype, shape, used, size), Part(leaf, first, used, size)))
            used += size
    if open_parts:
        pieces.append(_piece(pieces, open_parts, used))
    return pieces, split


class HostBuffer:
    """One buffer kept from save to save: asking the system for fresh memory each time costs as much as the copy.

    It is written by ``take`` and read through ``chunks``; the caller sees to it that the two never overlap.
    """

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    def take(self, pieces: list[Piece]) -> None:
        """Copy all parts; MemoryError if there is no room. Afterwards the tensors may change at once."""
        needed = max((piece.at + piece.bytes for piece in pieces), default=0)
        if self._memory is None or len(self._memory) < needed:
            self._memory = None
            self._memory = _memory(needed)
        view = memoryview(self._memory)
        for piece in pieces:
            for part in piece.parts:
                begin = piece.at + part.begin
                part.leaf.copy_items(view[begin : begin + part.bytes], part.first)

    def chunks(self, piece: Piece) -> Iterator[memoryview]:
        """Yield the bytes of the piece's file."""
        yield memoryview(piece.header)
        assert self._memory is not None, "chunks are read after take"
        view = memoryview(self._memory)[piece.at : piece.at + piece.bytes]
        for begin in range(0, piece.bytes, SLICE_BYTES):
            yield view[begin : begin + SLICE_BYTES]


def direct_chunks(piece: Piece) -> Iterator[memoryview]:
    """Yield the bytes of the piece's file straight from the tensors, which must not change meanwhile: needs no buffer."""
    yield memoryview(piece.header)
    for part in piece.parts:
        step = SLICE_BYTES // part.leaf.item_bytes
        items = part.bytes // part.leaf.item_bytes
        for first in range(0, items, step):
            out = memoryview(bytearray(min(step, items - first) * part.leaf.item_bytes))
            part.leaf.copy_items(out, part.first + first)
            yield out


def _cut(
    name: str, leaf: Leaf, limit: int, split: dict[str, list[str]]
) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    if leaf.bytes <= limit:
        yield name, leaf.shape, 0, leaf.bytes
        return
    step = max(1, limit // leaf.item_bytes)
    items = leaf.bytes // leaf.item_bytes
    split[name] = []
    for number, first in enumerate(range(0, items, step)):
        count = min(step, items - first)
        split[name].append(f"{name}~part{number}")
        yield split[name][-1], (count,), first, count * leaf.item_bytes


def _piece(before: list[Piece], parts: list[tuple[Entry, Part]], used: int) -> Piece:
    last = before[-1] if before else None
    at = -(-(last.at + last.bytes) // PAGE_BYTES) * PAGE_BYTES if last else 0
    header = safetensors_file.header(entry for entry, _ in parts)
    return Piece(f"state-{len(before):05d}.safetensors", header, tuple(part for _, part in parts), used, at)


def _memory(size: int) -> mmap.mmap:
    if not has_room_for(size):
        raise MemoryError(f"no room for a copy of {size} bytes")
    try:
        return mmap.mmap(-1, max(size, PAGE_BYTES))
    except (OSError, ValueError, OverflowError) as error:
        raise MemoryError(f"no room for a copy of {size} bytes") from error
