"""The form of a packed file: blocks of byte planes, each compressed by itself. docs/format.md shows how to read it by hand."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from supervisor.core import safetensors_file
from supervisor.core.digest import Digest
from supervisor.core.ports import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import FileIO
    from pathlib import Path

MAGIC, SUFFIX = b"TSPACK1\n", ".packed"
HEAD = struct.Struct("<III")
BLOCK_BYTES, BLOCK_BYTES_MAX = 1024 * 1024, 64 * 1024 * 1024
LEVEL, WIDTH_MAX = 1, 8
WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
}


class Damaged(ValueError):  # noqa: N818, because it is a verdict on the file
    """These bytes are no packed file, or not all of one."""


class Block(NamedTuple):
    """So many bytes at this place, of numbers that are ``width`` bytes wide."""

    offset: int
    length: int
    width: int


def blocks(source: Path) -> list[Block]:
    """Return how a file is cut: along its tensors where it is a `safetensors` file, in one width where it is not."""
    size = source.stat().st_size
    with source.open("rb") as file:
        spans = _spans(file, size)
    return [block for span in _joined(spans) for block in _cut(span)]


def pack(source: Path, target: Path, algorithm: str) -> tuple[Measured, Measured]:
    """Pack a file; return the measures of what was read and of what was written. ImportError where zstd is absent.

    Never more than a block is in memory. OSError is the local disk's.
    """
    read, written = _Measure(algorithm), _Measure(algorithm)
    with source.open("rb", buffering=0) as file, _made_anew(target) as out:
        written.write(out, MAGIC)
        for packed in _packed(file, blocks(source), read.take):
            written.write(out, packed)
    return read.measured(), written.measured()


def packed_bytes(source: Path, chosen: Iterable[Block]) -> int:
    """Pack some blocks of a file for nothing but to see how long they get."""
    with source.open("rb", buffering=0) as file:
        return sum(map(len, _packed(file, chosen, lambda _: None)))


def unpack(source: Path, target: Path, algorithm: str, most: int = sys.maxsize) -> Measured:
    """Write the file that was packed; return its measure. Damaged if it cannot be read, ImportError where zstd is absent.

    So is one that unpacks to more than ``most`` bytes: nothing beyond them is written.
    """
    written, length = _Measure(algorithm), 0
    with source.open("rb", buffering=0) as file, _made_anew(target) as out:
        for body in _unpacked(file):
            length += len(body)
            if length > most:
                raise Damaged(f"it unpacks to more than {most:,} bytes")
            written.write(out, body)
    return written.measured()


def _made_anew(target: Path) -> FileIO:
    """Open a new file, never the one of that name, because that may be a second name of a file in the store."""
    target.unlink(missing_ok=True)
    return target.open("xb", buffering=0)


def _packed(file: BinaryIO | FileIO, chosen: Iterable[Block], take: Callable[[bytes], None]) -> Iterator[bytes]:
    import zstandard

    zstd = zstandard.ZstdCompressor(level=LEVEL)
    for block in chosen:
        file.seek(block.offset)
        body = _read(file, block.length)
        take(body)
        packed = zstd.compress(planes(body, block.width))
        yield HEAD.pack(block.width, len(body), len(packed)) + packed


def _unpacked(file: FileIO) -> Iterator[bytes | bytearray]:
    import zstandard

    zstd, size = zstandard.ZstdDecompressor(), os.fstat(file.fileno()).st_size
    if _read(file, len(MAGIC)) != MAGIC:
        raise Damaged("it is no packed file")
    while head := _read(file, HEAD.size):
        if len(head) < HEAD.size:
            raise Damaged("it ends in the middle of a block")
        width, length, packed_length = HEAD.unpack(head)
        if not 0 < width <= WIDTH_MAX or max(length, packed_length) > BLOCK_BYTES_MAX:
            raise Damaged("a block says of itself what cannot be")
        if packed_length > size - file.tell():
            raise Damaged("it ends in the middle of a block")
        packed = _read(file, packed_length)
        try:
            # zstandard allocates what the frame says of itself, whatever the most is that it is given
            if zstandard.frame_content_size(packed) not in {length, -1}:
                raise Damaged("a block and what is packed in it disagree about their length")
            body = zstd.decompress(packed, max_output_size=length)
        except zstandard.ZstdError as error:
            raise Damaged(f"a block cannot be unpacked: {error}") from error
        if len(body) != length:
            raise Damaged("a block unpacks to another length than it says")
        yield whole(body, width)


def planes(body: bytes, width: int) -> bytes:
    """Return first all first bytes of the numbers, then all second ones, …; a rest that is no number stays at the end."""
    if width == 1:
        return body
    end = len(body) - len(body) % width
    return b"".join([*(body[place:end:width] for place in range(width)), body[end:]])


def whole(body: bytes, width: int) -> bytes | bytearray:
    """Undo ``planes``."""
    if width == 1:
        return body
    each = len(body) // width
    made, view = bytearray(len(body)), memoryview(body)
    for place in range(width):
        made[place : each * width : width] = view[place * each : (place + 1) * each]
    made[each * width :] = view[each * width :]
    return made


class _Measure:
    def __init__(self, algorithm: str) -> None:
        self._digest, self._length = Digest(algorithm), 0

    def take(self, body: bytes | bytearray) -> None:
        self._digest.update(body)
        self._length += len(body)

    def write(self, out: FileIO, body: bytes | bytearray) -> None:
        self.take(body)
        view = memoryview(body)
        while view:
            view = view[out.write(view) :]

    def measured(self) -> Measured:
        return Measured(self._length, str(self._digest))


def _read(file: BinaryIO | FileIO, length: int) -> bytes:
    """Read so many bytes, or what is left."""
    body = file.read(length) or b""
    while body and len(body) < length and (more := file.read(length - len(body))):
        body += more
    return body


def _spans(file: BinaryIO, size: int) -> list[Block]:
    """Return the parts of a `safetensors` file in their order; one part where it is none, or not as it should be."""
    plain = [Block(0, size, 1)]
    try:
        start = safetensors_file.header_bytes(file.read(safetensors_file.LENGTH_BYTES), size)
        file.seek(0)
        tensors = safetensors_file.entries(file.read(start), size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return plain
    spans, at = [Block(0, start, 1)], start
    for tensor in tensors:
        if start + tensor.begin != at:
            return plain
        spans.append(Block(at, tensor.bytes, WIDTHS.get(tensor.dtype, 1)))
        at += tensor.bytes
    return [*spans, Block(at, size - at, 1)]


def _joined(spans: Iterable[Block]) -> Iterator[Block]:
    """Yield neighbours of one width as one, because a model has many small tensors."""
    last: Block | None = None
    for each in spans:
        if not each.length:
            continue
        if last is not None and last.width == each.width and last.length % last.width == 0:
            last = Block(last.offset, last.length + each.length, last.width)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def _cut(span: Block) -> Iterator[Block]:
    for offset in range(0, span.length, BLOCK_BYTES):
        yield Block(span.offset + offset, min(BLOCK_BYTES, span.length - offset), span.width)
