"""Files of a script that nobody changed, as a checkpoint carries them: ``files.json`` beside their content.

Large files lie in the checkpoint's folder one by one, small ones together in a few bundles, so that ten thousand of them are
not ten thousand files to send.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from supervisor.core import fields, shapes
from supervisor.core.content import ContentError, NewerContent
from supervisor.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILES_FILE = "files.json"
FORMAT = "training-supervisor-files"
VERSION = 1
MODE_BITS = 0o777  # a checkpoint gives nothing the rights of its owner
FILE, LINK, FOLDER = "file", "link", "folder"


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the bytes of a file lie: in the file ``name`` of the checkpoint's folder, from ``offset`` on."""

    name: shapes.Name
    offset: shapes.Whole
    bytes: shapes.Whole
    digest: shapes.Digest


def _mode(value: object, at: str) -> int:
    return fields.whole(value, at) & MODE_BITS


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a symbolic link (to ``target``, as it is written in it) or a folder, under its path relative to the root.

    A path may hold anything that a name may hold but NUL; bytes that are no UTF-8 are in it as Python's surrogates.
    """

    path: shapes.Below
    kind: str
    mode: Annotated[int, _mode] = 0
    mtime_ns: shapes.Nanoseconds = 0
    piece: Piece | None = None
    target: shapes.Text = ""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a checkpoint carries.

    ``root``: the watched folder as it was typed; "" for what the script's framework told of,
    relative to the working folder. ``checkpoint``: the path of the newest checkpoint of the script's own in it, "" for none.
    ``counted`` is False where no hook counts the steps: ``step`` is then the number of the snapshot.
    """

    step: shapes.Whole
    root: shapes.Text
    entries: tuple[Entry, ...]
    checkpoint: shapes.Text = ""
    counted: bool = True

    @property
    def files(self) -> int:
        """How many files it carries."""
        return sum(entry.kind == FILE for entry in self.entries)


def body(carried: Carried) -> bytes:
    """Return ``files.json``."""
    told = {
        "format": FORMAT,
        "version": VERSION,
        "step": carried.step,
        "root": carried.root,
        "checkpoint": carried.checkpoint,
        "counted": carried.counted,
        "entries": [_told(entry) for entry in carried.entries],
    }
    return json.dumps(told, ensure_ascii=True, allow_nan=False).encode()


def parse(read: bytes) -> Carried:
    """Read ``files.json``, or raise ContentError: also for a path that would lead out of the root."""
    try:
        told = fields.document(read, fields.LISTING_BYTES_MAX, fields.LISTED_VALUES_MAX)
        if told["format"] != FORMAT:
            raise ContentError(f"{FILES_FILE} is not of this program")
        if told["version"] != VERSION:
            raise NewerContent(f"files of version {told['version']}, this program knows {VERSION}")
        carried = shapes.of(Carried, told)
        if carried.checkpoint:
            fields.path_below(carried.checkpoint, "checkpoint")
        for entry, plain in zip(carried.entries, told["entries"], strict=True):
            _see_usable(entry, plain)
        return replace(carried, entries=_inside(carried.entries))
    except KeyError as error:
        raise ContentError(f"{FILES_FILE} lacks {error}") from error
    except ValueError as error:
        raise (
            error if isinstance(error, ContentError) else ContentError(f"{FILES_FILE} is damaged ({error})")
        ) from error


def _told(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"path": entry.path, "kind": entry.kind}
    if entry.kind == LINK:
        return {**told, "target": entry.target}
    told["mode"] = entry.mode
    if entry.piece is None:
        return told
    piece = entry.piece
    where = {"name": piece.name, "offset": piece.offset, "bytes": piece.bytes, "digest": piece.digest}
    return {**told, "mtime_ns": entry.mtime_ns, "piece": where}


def _see_usable(entry: Entry, told: Mapping[str, Any]) -> None:
    """Raise ContentError for an entry that cannot be, or that says more than this program knows."""
    if entry.kind not in {FILE, LINK, FOLDER} or (entry.kind == FILE) != (entry.piece is not None):
        raise ContentError(f"{FILES_FILE} names a {entry.kind!r:.40} that cannot be")
    if more := told.keys() - Entry.__slots__:
        raise ContentError(f"{FILES_FILE} says {min(more)!r:.40} of a file, which this program does not know")


def _inside(told: Iterable[Entry]) -> tuple[Entry, ...]:
    """Refuse a path that is named twice, and an entry below a link: it would be written through it, and so anywhere."""
    entries = tuple(told)
    links = {entry.path for entry in entries if entry.kind == LINK}
    if len({entry.path for entry in entries}) < len(entries):
        raise ContentError(f"{FILES_FILE} names one path twice")
    for entry in entries if links else ():
        parts = entry.path.split("/")
        if any("/".join(parts[:depth]) in links for depth in range(1, len(parts))):
            raise ContentError(f"{FILES_FILE} names a path outside its folder, below a link: {entry.path!r:.60}")
    return entries
