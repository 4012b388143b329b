"""Plans the files: lays the leaves of a state out as safetensors files, side by side in one host buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.checkpoint import safetensors_file
from supervisor.core.checkpoint.safetensors_file import TensorEntry
from supervisor.core.frozen import dataclass
from supervisor.trainer.save.buffer import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping

    from supervisor.trainer.adapters.port import LeafSpec

PIECE_BYTES_MAX = 256_000_000
TWO_PIECES_FROM_BYTES = 64_000_000  # two readers verify two files at once


class LayoutPart(NamedTuple):
    """``bytes`` of the leaf with this name and number, from its byte ``first`` on, at ``begin`` of a file's data."""

    leaf: str
    number: int
    first: int
    begin: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorExtent:
    """One planned safetensors file: header and parts, ``bytes`` long, from ``at`` of the buffer on.

    ``frozen``: none of its leaves changed in the last saves.
    """

    name: str
    header: bytes
    parts: tuple[LayoutPart, ...]
    bytes: int
    at: int
    frozen: bool

    @property
    def end(self) -> int:
        """The first byte of the buffer behind the file's last page: files share no pages."""
        return self.at + -(-self.bytes // PAGE_BYTES) * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """``split``: for each leaf larger than a file, the names of its parts in order."""

    pieces: tuple[TensorExtent, ...]
    split: dict[str, list[str]]

    @property
    def bytes(self) -> int:
        """The size of the buffer in bytes."""
        return self.pieces[-1].end if self.pieces else 0


def plan(
    leaves: Mapping[str, LeafSpec], frozen: Collection[str] = (), *, piece_bytes_max: int = PIECE_BYTES_MAX
) -> Layout:
    """Plan the files. The widest items come first, so that every tensor is aligned to its items without gaps.

    Args:
        leaves: the leaves by name.
        frozen: names of leaves that get files of their own.
        piece_bytes_max: the largest size of one file, in bytes.
    """
    split: dict[str, list[str]] = {}
    pieces: list[TensorExtent] = []
    numbered = {name: (number, leaf) for number, (name, leaf) in enumerate(leaves.items())}
    for kind in (False, True):
        chosen = {name: numbered[name] for name in leaves if (name in frozen) == kind}
        for parts in _file_parts(chosen, piece_bytes_max, split, leaves):
            pieces.append(_piece(pieces, parts, frozen=kind))
    return Layout(tuple(pieces), split)


def _file_parts(
    leaves: Mapping[str, tuple[int, LeafSpec]], limit: int, split: dict[str, list[str]], taken: Container[str]
) -> Iterator[list[tuple[TensorEntry, LayoutPart]]]:
    """Yield the parts of one file after the other, with files of about equal size."""
    total = sum(leaf.bytes for _, leaf in leaves.values())
    pieces = max(-(-total // limit), 2 if total >= TWO_PIECES_FROM_BYTES else 1)
    enough = max(1, -(-total // pieces))  # tensors without a byte share a piece, too
    parts: list[tuple[TensorEntry, LayoutPart]] = []
    used = 0
    for name, (number, leaf) in sorted(leaves.items(), key=lambda item: -item[1][1].item_bytes):
        for part_name, shape, first, size in _cut(name, leaf, limit, split, taken):
            if parts and (used >= enough or used + size > limit):
                yield parts
                parts, used = [], 0
            parts.append(
                (TensorEntry(part_name, leaf.dtype, shape, used, size), LayoutPart(name, number, first, used, size))
            )
            used += size
    if parts:
        yield parts


def _cut(
    name: str, leaf: LeafSpec, limit: int, split: dict[str, list[str]], taken: Container[str]
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


def _piece(before: list[TensorExtent], parts: list[tuple[TensorEntry, LayoutPart]], *, frozen: bool) -> TensorExtent:
    header = safetensors_file.header(entry for entry, _ in parts)
    size = len(header) + sum(part.bytes for _, part in parts)
    at = before[-1].end if before else 0
    return TensorExtent(
        f"state-{len(before):05d}.safetensors", header, tuple(part for _, part in parts), size, at, frozen
    )
