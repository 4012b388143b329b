"""Which bytes go where: the leaves of a state laid out as safetensors files, side by side in one host buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import safetensors_file
from supervisor.core.safetensors_file import Entry
from supervisor.core.values import dataclass
from supervisor.trainer.buffer import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping

    from supervisor.trainer.leaf import Leaf

PIECE_BYTES_MAX = 256_000_000
TWO_PIECES_FROM_BYTES = 64_000_000  # two readers verify two files at once


class Part(NamedTuple):
    """``bytes`` of the leaf with this name and number, from its byte ``first`` on, at ``begin`` of a file's data."""

    leaf: str
    number: int
    first: int
    begin: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One safetensors file to be: header and parts, ``bytes`` long, from ``at`` of the buffer on.

    ``still``: all its leaves were the same in the saves before.
    """

    name: str
    header: bytes
    parts: tuple[Part, ...]
    bytes: int
    at: int
    still: bool

    @property
    def end(self) -> int:
        """The first byte behind it that belongs to another: pages are not shared."""
        return self.at + -(-self.bytes // PAGE_BYTES) * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """``split``: for each leaf larger than a piece, the names of its parts in order."""

    pieces: tuple[Piece, ...]
    split: dict[str, list[str]]

    @property
    def bytes(self) -> int:
        """Size of the buffer that it needs."""
        return self.pieces[-1].end if self.pieces else 0


def plan(leaves: Mapping[str, Leaf], still: Collection[str] = (), *, piece_bytes_max: int = PIECE_BYTES_MAX) -> Layout:
    """Lay the leaves out, those in ``still`` in files of their own.

    The widest items come first, so that every tensor is aligned to its own items without a gap.
    """
    split: dict[str, list[str]] = {}
    pieces: list[Piece] = []
    numbered = {name: (number, leaf) for number, (name, leaf) in enumerate(leaves.items())}
    for kind in (False, True):
        chosen = {name: numbered[name] for name in leaves if (name in still) == kind}
        for parts in _filled(chosen, piece_bytes_max, split, leaves):
            pieces.append(_piece(pieces, parts, still=kind))
    return Layout(tuple(pieces), split)


def _filled(
    leaves: Mapping[str, tuple[int, Leaf]], limit: int, split: dict[str, list[str]], taken: Container[str]
) -> Iterator[list[tuple[Entry, Part]]]:
    """Yield the parts of one piece after the other, the pieces of about equal size."""
    total = sum(leaf.bytes for _, leaf in leaves.values())
    pieces = max(-(-total // limit), 2 if total >= TWO_PIECES_FROM_BYTES else 1)
    enough = max(1, -(-total // pieces))  # tensors without a byte share a piece, too
    parts: list[tuple[Entry, Part]] = []
    used = 0
    for name, (number, leaf) in sorted(leaves.items(), key=lambda item: -item[1][1].item_bytes):
        for part_name, shape, first, size in _cut(name, leaf, limit, split, taken):
            if parts and (used >= enough or used + size > limit):
                yield parts
                parts, used = [], 0
            parts.append((Entry(part_name, leaf.dtype, shape, used, size), Part(name, number, first, used, size)))
            used += size
    if parts:
        yield parts


def _cut(
    name: str, leaf: Leaf, limit: int, split: dict[str, list[str]], taken: Container[str]
) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    if leaf.bytes <= limit:
        yield name, leaf.shape, 0, leaf.bytes
        return
    step = max(1, limit // leaf.item_bytes) * leaf.item_bytes
    split[name] = []
    for number, first in enumerate(range(0, leaf.bytes, step)):
        size = min(step, leaf.bytes - first)
        part = f"{name}~part{number}"
        while part in taken:
            part += "~"
        split[name].append(part)
        yield part, (size // leaf.item_bytes,), first, size


def _piece(before: list[Piece], parts: list[tuple[Entry, Part]], *, still: bool) -> Piece:
    header = safetensors_file.header(entry for entry, _ in parts)
    size = len(header) + sum(part.bytes for _, part in parts)
    at = before[-1].end if before else 0
    return Piece(f"state-{len(before):05d}.safetensors", header, tuple(part for _, part in parts), size, at, still)
