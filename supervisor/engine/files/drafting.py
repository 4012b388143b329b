"""The content of a snapshot while it is made: large files one by one, small ones in bundles, what is unchanged as links."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import field, replace
from typing import TYPE_CHECKING

from supervisor.core.carried import Entry, Piece
from supervisor.core.digest import Digest, algorithm_of, preferred
from supervisor.core.sharing import SHARED_BYTES_MIN
from supervisor.core.values import dataclass
from supervisor.engine.files import copying
from supervisor.engine.files.copying import ChangedMeanwhile, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from supervisor.engine.files.scanning import Seen

ALONE_BYTES_MIN = 256 * 1024  # a smaller file goes into a bundle
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
LIVE_SHARE_MIN = 0.5  # of a bundle: with less of it still in use, what is used is written anew
_NUMBER = re.compile(r"(?:file|bundle)-(\d+)")

Record = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Known:
    """The snapshot before: its folder, its entries, the records of its files, and how each path looked when it was taken."""

    folder: Path | None = None
    entries: Mapping[str, Entry] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)


class Draft:
    """Collects the files of one snapshot in ``folder``; ``records`` has the length and digest of each of them."""

    def __init__(self, folder: Path, before: Known) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.written_bytes = 0
        self._before = before
        numbers = [int(match[1]) for name in before.records if (match := _NUMBER.fullmatch(name))]
        self._next = 1 + max(numbers, default=0)
        self._bundle: Target | None = None
        self._bundle_digest = Digest(preferred())
        self._twins: dict[tuple[int, int], Piece] = {}

    def add(self, path: str, seen: Seen, length: int, *, grows: bool = False) -> Piece:
        """Copy the first ``length`` bytes of a file that was seen so. ChangedMeanwhile if it did more than grow, where it may."""
        if seen.names > 1 and seen.inode in self._twins and self._twins[seen.inode].bytes == length:
            return self._twins[seen.inode]
        source = copying.open_still(path, seen.inode)
        try:
            piece = self._copied(source, length)
            after = os.fstat(source)
        finally:
            os.close(source)
        marks = (after.st_size, after.st_mtime_ns, after.st_ctime_ns)
        if after.st_size < length or (not grows and marks != (seen.size, seen.mtime_ns, seen.ctime_ns)):
            raise ChangedMeanwhile(path)
        self._twins[seen.inode] = piece
        return piece

    def keep(self, entries: Iterable[Entry]) -> list[Entry]:
        """Carry these of the snapshot before unchanged. Call it after all that is new was added."""
        kept = list(entries)
        live = Counter[str]()
        for entry in kept:
            if entry.piece is not None:
                live[entry.piece.name] += entry.piece.bytes
        dissolved = {name for name, used in live.items() if self._worn(name, used)}
        for name in sorted(live.keys() - dissolved):
            self._link(name)
        return [self._rewritten(entry) if entry.piece and entry.piece.name in dissolved else entry for entry in kept]

    def close(self) -> None:
        """End the bundle that is being filled."""
        if self._bundle is not None:
            self._bundle.close()
            self.records[self._bundle.path.name] = (self._bundle.bytes, str(self._bundle_digest))
            self._bundle = None

    def write(self, name: str, body: bytes) -> None:
        """Write a small file of our own."""
        target, digest = Target(self.folder / name), Digest(preferred())
        digest.update(body)
        try:
            target.write(body)
        finally:
            target.close()
        self.records[name] = (len(body), str(digest))

    def _copied(self, source: int, length: int) -> Piece:
        if length < ALONE_BYTES_MIN:
            body = os.pread(source, length, 0)
            if len(body) != length:
                raise ChangedMeanwhile(f"a file of {length} bytes")
            return self._bundled(body)
        target = Target(self.folder / f"file-{self._number():06d}")
        try:
            copied = copying.copy(source, target, length)
        finally:
            target.close()
        self.records[target.path.name] = (copied.bytes, copied.digest)
        self.written_bytes += copied.bytes
        return Piece(target.path.name, 0, copied.bytes, copied.digest)

    def _bundled(self, body: bytes) -> Piece:
        if self._bundle is not None and self._bundle.bytes + len(body) > BUNDLE_BYTES_MAX:
            self.close()
        if self._bundle is None:
            self._bundle = Target(self.folder / f"bundle-{self._number():06d}")
            self._bundle_digest = Digest(preferred())
        digest, offset = Digest(preferred()), self._bundle.bytes
        digest.update(body)
        self._bundle.write(body)
        self._bundle_digest.update(body)
        self.written_bytes += len(body)
        return Piece(self._bundle.path.name, offset, len(body), str(digest))

    def _worn(self, name: str, used: int) -> bool:
        """Say whether a bundle is to be written anew: little of it is used, or it is small and one is being written anyway."""
        length = self._before.records[name][0]
        if not name.startswith("bundle-"):
            return False
        return used < LIVE_SHARE_MIN * length or (self._bundle is not None and length < SHARED_BYTES_MIN)

    def _rewritten(self, entry: Entry) -> Entry:
        assert entry.piece is not None
        assert self._before.folder is not None
        body = read(self._before.folder, entry.piece)
        return replace(entry, piece=self._bundled(body))

    def _link(self, name: str) -> None:
        assert self._before.folder is not None
        source = self._before.folder / name
        try:
            os.link(source, self.folder / name)
        except FileNotFoundError:
            raise
        except OSError:  # no links here, or another disk
            target = Target(self.folder / name)
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                copying.copy(descriptor, target, self._before.records[name][0])
            finally:
                os.close(descriptor)
                target.close()
        self.records[name] = self._before.records[name]

    def _number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number


def read(folder: Path, piece: Piece) -> bytes:
    """Return the bytes of a piece, measured. OSError if they are not what they were."""
    with (folder / piece.name).open("rb", buffering=0) as file:
        body = os.pread(file.fileno(), piece.bytes, piece.offset)
    digest = Digest(algorithm_of(piece.digest))
    digest.update(body)
    if len(body) != piece.bytes or str(digest) != piece.digest:
        raise OSError(5, "it is not what was written", str(folder / piece.name))
    return body
