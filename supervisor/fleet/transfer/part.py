"""Transfer parts: numbered files of at most 32 MB that carry files of a store, or chunks of them, to another store.

A part is ``MAGIC``, the header's length (8 bytes, big-endian), the header (JSON), the chunks' bytes in order, and the
sha256 of all that. No content of a part is used before this sum is verified.
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from supervisor.core.digest import KNOWN, algorithm_of
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields, shapes
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MAGIC = b"tsparcl1"
VERSION = 1
BYTES_MAX = 32 * 1024 * 1024
CONTENT_BYTES_MAX = 30 * 1024 * 1024
HEADER_BYTES_MAX = 1_000_000
HEADER_READ_MAX = 4 * HEADER_BYTES_MAX  # an acknowledgement comes on top of the chunks
ENTRIES_MAX = 2000
PATH_MAX = 1000
_LENGTH, _SUM = 8, 32
SUFFIX = ".parcel"


class TransferPartError(ValueError):
    """Not a complete part: invalid, truncated, or changed in transit. None of its content was used."""


def _checked(path: object, _at: str) -> str:
    return checked_path(path)


@dataclass(frozen=True, slots=True)
class FileChunk:
    """``bytes`` of a file from ``offset`` on; ``total`` and ``digest`` belong to the whole file."""

    path: Annotated[str, _checked]
    offset: shapes.Whole
    bytes: shapes.Whole
    total: shapes.Whole
    digest: shapes.Digest


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Acknowledgement of parts from the outbox ``to``: the arrived parts, and the files now complete.

    ``refused``: rejected files and the reasons; ``wanted``: lost files that must be sent again.
    """

    to: shapes.Text
    parcels: Sequence[shapes.Whole] = ()
    held: Sequence[Annotated[str, _checked]] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    wanted: Sequence[Annotated[str, _checked]] = ()


@dataclass(frozen=True, slots=True)
class PartHeader:
    """``number`` counts the parts of ``origin``, an outbox's random name."""

    number: int
    origin: str
    pieces: Sequence[FileChunk] = ()
    letter: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class _Header:
    """A header as it is written."""

    version: shapes.Whole
    n: shapes.Whole
    origin: shapes.Text
    entries: tuple[FileChunk, ...]
    letter: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class TransferPart:
    """A part in ``file``, and its ``name`` under the machine's folder."""

    file: Path
    name: str
    bytes: int
    sha256: str

    def index(self) -> dict[str, Any]:
        """Return its description for JSON."""
        return {"file": self.name, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part that was read and verified."""

    header: PartHeader
    sha256: str
    content: memoryview

    def __iter__(self) -> Iterator[tuple[FileChunk, memoryview]]:
        at = 0
        for piece in self.header.pieces:
            yield piece, self.content[at : at + piece.bytes]
            at += piece.bytes


def write(file: Path, name: str, header: PartHeader, bodies: Iterable[bytes]) -> TransferPart:
    """Write a part completely or not at all.

    Args:
        file: the file to write.
        name: its name under the machine's folder.
        header: the header.
        bodies: the chunks' bytes, in order.
    """
    summed, length = hashlib.sha256(), 0
    encoded = json.dumps(_plain(header), separators=(",", ":")).encode()
    with atomic.writing(file, flush=True) as out:
        for chunk in (MAGIC, len(encoded).to_bytes(_LENGTH, "big"), encoded, *bodies):
            summed.update(chunk)
            length += out.write(chunk)
        inner = summed.digest()
        summed.update(inner)
        length += out.write(inner)
    return TransferPart(file, name, length, summed.hexdigest())


def read(file: Path, sha256: str = "") -> OpenPart:
    """Read and verify a part.

    ``sha256``: expected sum of the whole file, if known. Raises TransferPartError, OSError.
    """
    length = file.stat().st_size
    if length > BYTES_MAX:
        raise TransferPartError(f"{file.name} has {length:,} bytes, which no part has")
    body = file.read_bytes()
    if len(body) < len(MAGIC) + _LENGTH + _SUM or not body.startswith(MAGIC):
        raise TransferPartError(f"{file.name} is not a part")
    inside = memoryview(body)[:-_SUM]
    summed = hashlib.sha256(inside)
    verified = summed.digest() == body[-_SUM:]
    summed.update(body[-_SUM:])
    seen = summed.hexdigest()
    if not verified or seen != (sha256 or seen):
        raise TransferPartError(f"{file.name} was cut short or changed on its way")
    begin = len(MAGIC) + _LENGTH
    end = begin + int.from_bytes(inside[len(MAGIC) : begin], "big")
    header = _header(file.name, bytes(inside[begin:end]))
    content = inside[end:]
    if sum(piece.bytes for piece in header.pieces) != len(content):
        raise TransferPartError(f"{file.name} does not hold what its header names")
    return OpenPart(header, seen, content)


def fill_parts(pieces: Iterable[FileChunk]) -> Iterator[list[FileChunk]]:
    """Group chunks, in order, into parts that are as full as possible."""
    inside: list[FileChunk] = []
    content = header = 0
    for piece in pieces:
        encoded = len(piece.path) * 6 + 200  # at most, as JSON
        full = content + piece.bytes > CONTENT_BYTES_MAX or header + encoded > HEADER_BYTES_MAX
        if inside and (full or len(inside) == ENTRIES_MAX):
            yield inside
            inside, content, header = [], 0, 0
        inside.append(piece)
        content, header = content + piece.bytes, header + encoded
    if inside:
        yield inside


def body(file: Path, piece: FileChunk) -> bytes:
    """Read the bytes of a chunk from its file. Raises OSError, also if the file has become shorter."""
    with file.open("rb") as opened:
        opened.seek(piece.offset)
        read = opened.read(piece.bytes)
    if len(read) != piece.bytes:
        raise OSError(errno.EIO, f"{piece.path} has become shorter")
    return read


def checked_path(path: object) -> str:
    """Return a valid path inside its store. Raises TransferPartError for any other value."""
    if not isinstance(path, str) or not path or len(path) > PATH_MAX or "\x00" in path:
        raise TransferPartError(f"{path!r} cannot be the path of a file")
    if any(part in {"", ".", ".."} or part.startswith(".tmp-") for part in path.split("/")):
        raise TransferPartError(f"{path!r} leads out of the store, or to what is not whole")
    return path


def _header(name: str, body: bytes) -> PartHeader:
    try:
        encoded = fields.document(body, HEADER_READ_MAX)
        if fields.whole(encoded.get("version"), "version") > VERSION:
            raise TransferPartError(f"{name} was packed by a newer version of training-supervisor: update this one")
        read = shapes.convert(_Header, encoded)
        if len(read.entries) > ENTRIES_MAX:
            raise TransferPartError(f"it names {len(read.entries):,} chunks, and no part has more than {ENTRIES_MAX:,}")
        for piece in read.entries:
            _require_possible(piece)
        for path in read.letter.refused if read.letter else ():
            checked_path(path)
        return PartHeader(read.n, read.origin, read.entries, read.letter)
    except ValueError as error:
        if isinstance(error, TransferPartError):
            raise
        raise TransferPartError(f"{name} has a damaged header: {error}") from error


def _require_possible(piece: FileChunk) -> None:
    """Raise TransferPartError for a chunk outside its file, or with a digest unknown to this version."""
    if piece.offset + piece.bytes > piece.total:
        raise TransferPartError(f"no file has such a piece: {piece.offset}, {piece.bytes} of {piece.total}")
    if algorithm_of(piece.digest) not in KNOWN:
        raise TransferPartError(f"a digest that this version does not know: {piece.digest!r}")


def _plain(header: PartHeader) -> dict[str, Any]:
    entries = [{name: getattr(piece, name) for name in piece.__slots__} for piece in header.pieces]
    encoded: dict[str, Any] = {"version": VERSION, "n": header.number, "origin": header.origin, "entries": entries}
    if header.letter is not None:
        letter = {name: getattr(header.letter, name) for name in header.letter.__slots__}
        encoded["letter"] = {key: dict(each) if key == "refused" else each for key, each in letter.items()}
        encoded["letter"] |= {key: list(encoded["letter"][key]) for key in ("parcels", "held", "wanted")}
    return encoded
