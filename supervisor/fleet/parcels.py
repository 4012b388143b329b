"""Parcels: numbered files of at most 32 MB in which files of a store, or pieces of them, travel between two stores.

A parcel is ``MAGIC``, the header's length (8 bytes, big-endian), the header (JSON), the pieces' bytes one after the other,
and the sha256 of all that. Nothing of a parcel is believed before this sum is right.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from supervisor.core import fields, shapes
from supervisor.core.digest import KNOWN, algorithm_of
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MAGIC = b"tsparcl1"
VERSION = 1
BYTES_MAX = 32 * 1024 * 1024
CONTENT_BYTES_MAX = 30 * 1024 * 1024
HEADER_BYTES_MAX = 1_000_000
HEADER_READ_MAX = 4 * HEADER_BYTES_MAX  # a letter comes on top of the pieces
ENTRIES_MAX = 2000
PATH_MAX = 1000
_LENGTH, _SUM = 8, 32
SUFFIX = ".parcel"


class ParcelError(ValueError):
    """This is not a whole parcel: garbage, cut short, or changed on its way. Nothing of it was used."""


def _checked(path: object, _at: str) -> str:
    return checked_path(path)


@dataclass(frozen=True, slots=True)
class Piece:
    """``bytes`` of a file from ``offset`` on; ``total`` and ``digest`` are the whole file's."""

    path: Annotated[str, _checked]
    offset: shapes.Whole
    bytes: shapes.Whole
    total: shapes.Whole
    digest: shapes.Digest


@dataclass(frozen=True, slots=True)
class Letter:
    """What home says of parcels it got from the outbox ``to``: which arrived, which files it now holds whole.

    ``refused``: files it does not take, and why; ``wanted``: files it lacks and wants to be sent again.
    """

    to: shapes.Text
    parcels: Sequence[shapes.Whole] = ()
    held: Sequence[Annotated[str, _checked]] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    wanted: Sequence[Annotated[str, _checked]] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """``number`` counts the parcels of ``origin``, an outbox's random name."""

    number: int
    origin: str
    pieces: Sequence[Piece] = ()
    letter: Letter | None = None


@dataclass(frozen=True, slots=True)
class _Header:
    """A header as it is written."""

    version: shapes.Whole
    n: shapes.Whole
    origin: shapes.Text
    entries: tuple[Piece, ...]
    letter: Letter | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel that lies in ``file``, and its ``name`` under the machine's folder."""

    file: Path
    name: str
    bytes: int
    sha256: str

    def index(self) -> dict[str, Any]:
        """Return how it is told of in JSON."""
        return {"file": self.name, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Opened:
    """A parcel that was read and proved whole."""

    header: Header
    sha256: str
    content: memoryview

    def __iter__(self) -> Iterator[tuple[Piece, memoryview]]:
        at = 0
        for piece in self.header.pieces:
            yield piece, self.content[at : at + piece.bytes]
            at += piece.bytes


def write(file: Path, name: str, header: Header, bodies: Iterable[bytes]) -> Parcel:
    """Write a parcel, whole under its name or not at all. ``bodies`` are the pieces' bytes, in their order."""
    summed, length = hashlib.sha256(), 0
    told = json.dumps(_plain(header), separators=(",", ":")).encode()
    beside = file.with_name(f".new-{file.name}")
    with beside.open("wb") as out:
        for chunk in (MAGIC, len(told).to_bytes(_LENGTH, "big"), told, *bodies):
            summed.update(chunk)
            length += out.write(chunk)
        inner = summed.digest()
        summed.update(inner)
        length += out.write(inner)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
    return Parcel(file, name, length, summed.hexdigest())


def read(file: Path, sha256: str = "") -> Opened:
    """Read a parcel and prove it; ``sha256``: of the whole file, where it was told. Raises ParcelError, OSError."""
    length = file.stat().st_size
    if length > BYTES_MAX:
        raise ParcelError(f"{file.name} has {length:,} bytes, which no parcel has")
    body = file.read_bytes()
    if len(body) < len(MAGIC) + _LENGTH + _SUM or not body.startswith(MAGIC):
        raise ParcelError(f"{file.name} is not a parcel")
    inside = memoryview(body)[:-_SUM]
    summed = hashlib.sha256(inside)
    proved = summed.digest() == body[-_SUM:]
    summed.update(body[-_SUM:])
    seen = summed.hexdigest()
    if not proved or seen != (sha256 or seen):
        raise ParcelError(f"{file.name} was cut short or changed on its way")
    begin = len(MAGIC) + _LENGTH
    end = begin + int.from_bytes(inside[len(MAGIC) : begin], "big")
    header = _header(file.name, bytes(inside[begin:end]))
    content = inside[end:]
    if sum(piece.bytes for piece in header.pieces) != len(content):
        raise ParcelError(f"{file.name} does not hold what its header names")
    return Opened(header, seen, content)


def filled(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Put pieces together, in their order, into parcels that are as full as may be."""
    inside: list[Piece] = []
    content = header = 0
    for piece in pieces:
        told = len(piece.path) * 6 + 200  # at most, as JSON
        full = content + piece.bytes > CONTENT_BYTES_MAX or header + told > HEADER_BYTES_MAX
        if inside and (full or len(inside) == ENTRIES_MAX):
            yield inside
            inside, content, header = [], 0, 0
        inside.append(piece)
        content, header = content + piece.bytes, header + told
    if inside:
        yield inside


def body(file: Path, piece: Piece) -> bytes:
    """Read the bytes of a piece from its file. Raises OSError, also where the file is shorter than it was."""
    with file.open("rb") as opened:
        opened.seek(piece.offset)
        read = opened.read(piece.bytes)
    if len(read) != piece.bytes:
        raise OSError(errno.EIO, f"{piece.path} has become shorter")
    return read


def checked_path(path: object) -> str:
    """Return a path that stays inside its store and can be one of a store's files, else raise ParcelError."""
    if not isinstance(path, str) or not path or len(path) > PATH_MAX or "\x00" in path:
        raise ParcelError(f"{path!r} cannot be the path of a file")
    if any(part in {"", ".", ".."} or part.startswith(".tmp-") for part in path.split("/")):
        raise ParcelError(f"{path!r} leads out of the store, or to what is not whole")
    return path


def _header(name: str, body: bytes) -> Header:
    try:
        told = fields.document(body, HEADER_READ_MAX)
        if fields.whole(told.get("version"), "version") > VERSION:
            raise ParcelError(f"{name} was packed by a newer version of training-supervisor: update this one")
        read = shapes.of(_Header, told)
        if len(read.entries) > ENTRIES_MAX:
            raise ParcelError(f"it names {len(read.entries):,} pieces, and no parcel has more than {ENTRIES_MAX:,}")
        for piece in read.entries:
            _see_possible(piece)
        for path in read.letter.refused if read.letter else ():
            checked_path(path)
        return Header(read.n, read.origin, read.entries, read.letter)
    except ValueError as error:
        if isinstance(error, ParcelError):
            raise
        raise ParcelError(f"{name} has a damaged header: {error}") from error


def _see_possible(piece: Piece) -> None:
    """Raise ParcelError for a piece that no file has, or whose digest this version cannot make."""
    if piece.offset + piece.bytes > piece.total:
        raise ParcelError(f"no file has such a piece: {piece.offset}, {piece.bytes} of {piece.total}")
    if algorithm_of(piece.digest) not in KNOWN:
        raise ParcelError(f"a digest that this version does not know: {piece.digest!r}")


def _plain(header: Header) -> dict[str, Any]:
    entries = [{name: getattr(piece, name) for name in piece.__slots__} for piece in header.pieces]
    told: dict[str, Any] = {"version": VERSION, "n": header.number, "origin": header.origin, "entries": entries}
    if header.letter is not None:
        letter = {name: getattr(header.letter, name) for name in header.letter.__slots__}
        told["letter"] = {key: dict(each) if key == "refused" else each for key, each in letter.items()}
        told["letter"] |= {key: list(told["letter"][key]) for key in ("parcels", "held", "wanted")}
    return told
