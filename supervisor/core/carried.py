"""Files of a script that nobody changed, as a checkpoint carries them: ``files.json`` beside their content.

Large files lie in the checkpoint's folder one by one, small ones together in a few bundles, so that ten thousand of them are
not ten thousand files to send.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from supervisor.core.content import ContentError, NewerContent
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

FILES_FILE = "files.json"
FORMAT = "training-supervisor-files"
VERSION = 1
FILE, LINK, FOLDER = "file", "link", "folder"


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the bytes of a file lie: in the file ``name`` of the checkpoint's folder, from ``offset`` on."""

    name: str
    offset: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a symbolic link (to ``target``, as it is written in it) or a folder, under its path relative to the root.

    A path may hold anything that a name may hold but NUL; bytes that are no UTF-8 are in it as Python's surrogates.
    """

    path: str
    kind: str
    mode: int = 0
    mtime_ns: int = 0
    piece: Piece | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a checkpoint carries.

    ``root``: the watched folder as it was typed; "" for what the script's framework told of,
    relative to the working folder. ``checkpoint``: the path of the newest checkpoint of the script's own in it, "" for none.
    """

    step: int
    root: str
    entries: tuple[Entry, ...]
    checkpoint: str = ""

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
        "entries": [_told(entry) for entry in carried.entries],
    }
    return json.dumps(told, ensure_ascii=True, allow_nan=False).encode()


def parse(read: bytes) -> Carried:
    """Read ``files.json``, or raise ContentError: also for a path that would lead out of the root."""
    try:
        told = json.loads(read)
        if told["format"] != FORMAT:
            raise ContentError(f"{FILES_FILE} is not of this program")
        if told["version"] != VERSION:
            raise NewerContent(f"files of version {told['version']}, this program knows {VERSION}")
        entries = tuple(_entry(each) for each in told["entries"])
        return Carried(int(told["step"]), str(told["root"]), _inside(entries), str(told["checkpoint"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ContentError):
            raise
        raise ContentError(f"{FILES_FILE} is damaged ({error})") from error


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


def _entry(told: dict[str, Any]) -> Entry:
    piece = told.get("piece")
    if told["kind"] not in {FILE, LINK, FOLDER} or (told["kind"] == FILE) != (piece is not None):
        raise ContentError(f"{FILES_FILE} names a {told['kind']!r} that cannot be")
    return Entry(**{**told, "piece": Piece(**piece) if piece is not None else None})


def _inside(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    found = tuple(entries)
    for entry in found:
        parts = entry.path.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise ContentError(f"{FILES_FILE} names a path outside its folder: {entry.path!r}")
        if entry.piece is not None and ("/" in entry.piece.name or entry.piece.name in {"", ".", ".."}):
            raise ContentError(f"{FILES_FILE} names a file outside the checkpoint: {entry.piece.name!r}")
    return found
