"""Pieces of files become whole files of a store: in any order, any of them twice, with a crash anywhere.

A file enters the store only when all its bytes are there and its digest is right. Until then they lie in a local folder, with
a note of which have arrived; the note is written after they are flushed, so it never promises too much.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest, algorithm_of, digest_of
from supervisor.core.ports import Measured, Missing, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.fleet.parcels import Piece

CHUNK_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 512  # of st_blocks, on every system


class Fate(StrEnum):
    """What became of a piece: ``ADDED``: its file is in the store now; ``TWIN``: it was already."""

    ADDED = "added"
    TWIN = "twin"
    INCOMPLETE = "incomplete"
    WANTED = "wanted"
    REFUSED = "refused"


class Gathering:
    """Puts pieces together in ``folder`` and whole files into ``store``."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._known: dict[str, Measured] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, piece: Piece, body: memoryview) -> Fate:
        """Take one piece. WANTED: the file came damaged and must come again; REFUSED: another one has its name.

        Raises StoreError and OSError, and may then be called again with the same piece.
        """
        promised = Measured(piece.total, piece.digest)
        there = self.measured(piece.path, algorithm_of(piece.digest))
        if there is not None:
            self._forget(self._part(piece))
            return Fate.TWIN if there == promised else Fate.REFUSED
        if piece.bytes == piece.total:
            return self._enter(piece, promised, body)
        part = self._part(piece)
        if not self._keep(piece, part, body):
            return Fate.INCOMPLETE
        if _measure(part, algorithm_of(piece.digest)) != promised:
            self._forget(part)
            return Fate.WANTED
        with suppress(Taken):  # a twin of this program was here in between; what it put in is compared below
            self._known[piece.path] = self._store.push(str(part), piece.path, algorithm_of(piece.digest), link=True)
        self._forget(part)
        return Fate.ADDED if self.measured(piece.path, algorithm_of(piece.digest)) == promised else Fate.REFUSED

    def measured(self, path: str, algorithm: str) -> Measured | None:
        """Return length and digest of a file of the store, None if it is not there; read once, as it never changes."""
        known = self._known.get(path)
        if known is None or algorithm_of(known.digest) != algorithm:
            beside = self._folder / "measured"
            try:
                known = self._store.pull(path, str(beside), algorithm, link=True)
            except Missing:
                return None
            finally:
                beside.unlink(missing_ok=True)
            self._known[path] = known
        return known

    def look_again(self) -> None:
        """Know only of files that are still there: some were removed from the store."""
        folders = {path.rpartition("/")[0] for path in self._known}
        there = {f"{folder}/{each.name}" for folder in folders for each in self._store.list(folder)}
        self._known = {path: known for path, known in self._known.items() if path in there}

    def arriving(self, below: str) -> dict[str, int]:
        """Return the files under the path ``below`` that are here in part, relative to it, with their bytes on the disk."""
        return {
            path.removeprefix(below): part.stat().st_blocks * BLOCK_BYTES
            for part, path in self._parts()
            if path.startswith(below)
        }

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Remove the pieces of files that will not come to their end."""
        for part, path in list(self._parts()):
            if unwanted(path):
                self._forget(part)

    def _enter(self, piece: Piece, promised: Measured, body: memoryview) -> Fate:
        if digest_of((body,), algorithm_of(piece.digest)) != promised.digest:
            return Fate.WANTED
        with suppress(Taken):
            self._store.create(piece.path, bytes(body))
            self._known[piece.path] = promised
        return Fate.ADDED if self.measured(piece.path, algorithm_of(piece.digest)) == promised else Fate.REFUSED

    def _keep(self, piece: Piece, part: Path, body: memoryview) -> bool:
        """Keep a piece; say whether it was the last that lacked."""
        note = part.with_suffix(".json")
        arrived = [(piece.offset, piece.bytes), *_noted(note)]
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view, at = body, piece.offset
            while view:
                written = os.pwrite(fd, view, at)
                view, at = view[written:], at + written
            os.fsync(fd)
        finally:
            os.close(fd)
        beside = note.with_suffix(".new")
        beside.write_text(json.dumps({"path": piece.path, "arrived": sorted(set(arrived))}))
        beside.replace(note)
        return _covered(arrived) >= piece.total

    def _part(self, piece: Piece) -> Path:
        named = sha256(f"{piece.total} {piece.digest} {piece.path}".encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{named[:32]}.part"

    def _forget(self, part: Path) -> None:
        part.with_suffix(".json").unlink(missing_ok=True)  # first, because without it the bytes are nothing
        part.unlink(missing_ok=True)

    def _parts(self) -> Iterator[tuple[Path, str]]:
        for part in self._folder.glob("*.part"):
            try:
                yield part, str(json.loads(part.with_suffix(".json").read_bytes())["path"])
            except (OSError, ValueError, KeyError, TypeError):
                yield part, ""


def _noted(note: Path) -> list[tuple[int, int]]:
    try:
        return [(int(offset), int(length)) for offset, length in json.loads(note.read_bytes())["arrived"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none has come yet, or nobody knows which: all are asked for again


def _covered(arrived: list[tuple[int, int]]) -> int:
    """Return up to which offset everything is there."""
    end = 0
    for offset, length in sorted(arrived):
        if offset > end:
            break
        end = max(end, offset + length)
    return end


def _measure(file: Path, algorithm: str) -> Measured:
    digest, length = Digest(algorithm), 0
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return Measured(length, str(digest))
