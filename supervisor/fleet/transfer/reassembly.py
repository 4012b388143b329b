"""Reassembly of chunks into the files of a store: in any order, with repeats, with a crash at any point.

Theory of operation. A file enters the store only when all its bytes are there and its digest is right. Until then the
bytes lie in a local folder, with a note of the chunks that arrived. The note is written after their flush, so it never
claims too much.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest, algorithm_of, digest_of
from supervisor.core.ports import AlreadyExists, FileDigest, NotFound
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.fleet.transfer.part import FileChunk

CHUNK_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 512  # of st_blocks, on every system


class ChunkOutcome(StrEnum):
    """Outcome of a chunk. ``ADDED``: its file is in the store now; ``TWIN``: it was already there."""

    ADDED = "added"
    TWIN = "twin"
    INCOMPLETE = "incomplete"
    WANTED = "wanted"
    REFUSED = "refused"


class Reassembly:
    """Puts chunks together in ``folder`` and complete files into ``store``."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._known: dict[str, FileDigest] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, piece: FileChunk, body: memoryview) -> ChunkOutcome:
        """Take one chunk. WANTED: the file arrived damaged and must come again; REFUSED: another file has its name.

        Raises StoreError and OSError; it may then be called again with the same chunk.
        """
        expected = FileDigest(piece.total, piece.digest)
        there = self.measure(piece.path, algorithm_of(piece.digest))
        if there is not None:
            self._forget(self._part(piece))
            return ChunkOutcome.TWIN if there == expected else ChunkOutcome.REFUSED
        if piece.bytes == piece.total:
            return self._enter(piece, expected, body)
        part = self._part(piece)
        if not self._keep(piece, part, body):
            return ChunkOutcome.INCOMPLETE
        if _measure(part, algorithm_of(piece.digest)) != expected:
            self._forget(part)
            return ChunkOutcome.WANTED
        # another instance of this program was here in between; its file is compared below
        with suppress(AlreadyExists):
            self._known[piece.path] = self._store.push(str(part), piece.path, algorithm_of(piece.digest), link=True)
        self._forget(part)
        return (
            ChunkOutcome.ADDED
            if self.measure(piece.path, algorithm_of(piece.digest)) == expected
            else ChunkOutcome.REFUSED
        )

    def measure(self, path: str, algorithm: str) -> FileDigest | None:
        """Return length and digest of a file of the store, None if it is absent.

        It is read once, as it never changes.
        """
        known = self._known.get(path)
        if known is None or algorithm_of(known.digest) != algorithm:
            beside = self._folder / "measured"
            try:
                known = self._store.pull(path, str(beside), algorithm, link=True)
            except NotFound:
                return None
            finally:
                beside.unlink(missing_ok=True)
            self._known[path] = known
        return known

    def rescan(self) -> None:
        """Forget files that were removed from the store."""
        folders = {path.rpartition("/")[0] for path in self._known}
        there = {f"{folder}/{each.name}" for folder in folders for each in self._store.list(folder)}
        self._known = {path: known for path, known in self._known.items() if path in there}

    def partial_bytes(self, below: str) -> dict[str, int]:
        """Return the partly received files under the path ``below``, relative to it, with their bytes on the disk."""
        return {
            path.removeprefix(below): part.stat().st_blocks * BLOCK_BYTES
            for part, path in self._parts()
            if path.startswith(below)
        }

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Remove the chunks of files that will never be complete."""
        for part, path in list(self._parts()):
            if unwanted(path):
                self._forget(part)

    def _enter(self, piece: FileChunk, expected: FileDigest, body: memoryview) -> ChunkOutcome:
        if digest_of((body,), algorithm_of(piece.digest)) != expected.digest:
            return ChunkOutcome.WANTED
        with suppress(AlreadyExists):
            self._store.create(piece.path, bytes(body))
            self._known[piece.path] = expected
        return (
            ChunkOutcome.ADDED
            if self.measure(piece.path, algorithm_of(piece.digest)) == expected
            else ChunkOutcome.REFUSED
        )

    def _keep(self, piece: FileChunk, part: Path, body: memoryview) -> bool:
        """Store a chunk; return True if it was the last missing one."""
        note = part.with_suffix(".json")
        arrived = [(piece.offset, piece.bytes), *_read_note(note)]
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view, at = body, piece.offset
            while view:
                written = os.pwrite(fd, view, at)
                view, at = view[written:], at + written
            os.fsync(fd)
        finally:
            os.close(fd)
        atomic.replace(note, json.dumps({"path": piece.path, "arrived": sorted(set(arrived))}).encode())
        return _covered(arrived) >= piece.total

    def _part(self, piece: FileChunk) -> Path:
        named = sha256(f"{piece.total} {piece.digest} {piece.path}".encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{named[:32]}.part"

    def _forget(self, part: Path) -> None:
        part.with_suffix(".json").unlink(missing_ok=True)  # first, because without it the bytes have no meaning
        part.unlink(missing_ok=True)

    def _parts(self) -> Iterator[tuple[Path, str]]:
        for part in self._folder.glob("*.part"):
            try:
                yield part, str(json.loads(part.with_suffix(".json").read_bytes())["path"])
            except (OSError, ValueError, KeyError, TypeError):
                yield part, ""


def _read_note(note: Path) -> list[tuple[int, int]]:
    try:
        return [(int(offset), int(length)) for offset, length in json.loads(note.read_bytes())["arrived"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none has arrived, or the note is lost: all are requested again


def _covered(arrived: list[tuple[int, int]]) -> int:
    """Return the offset up to which all bytes are there."""
    end = 0
    for offset, length in sorted(arrived):
        if offset > end:
            break
        end = max(end, offset + length)
    return end


def _measure(file: Path, algorithm: str) -> FileDigest:
    digest, length = Digest(algorithm), 0
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return FileDigest(length, str(digest))
