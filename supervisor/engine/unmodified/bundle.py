"""Content of a snapshot in progress: large files singly, small ones in bundles, unchanged ones as links."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import field, replace
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.file_manifest import FileExtent, FileRow
from supervisor.core.digest import Digest, algorithm_of, preferred
from supervisor.core.frozen import dataclass
from supervisor.core.policy.dedup import SHARED_BYTES_MIN
from supervisor.engine.file_watch import stable_copy
from supervisor.engine.file_watch.stable_copy import ChangedMeanwhile, CopyTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from supervisor.engine.file_watch.scan import FileMark

SEPARATE_BYTES_MIN = 256 * 1024  # a smaller file goes into a bundle
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
LIVE_SHARE_MIN = 0.5  # of a bundle: with a smaller share still in use, the used content is rewritten
_NUMBER = re.compile(r"(?:file|bundle)-(\d+)")

Record = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Known:
    """The previous snapshot: its folder, its entries, its file records, and the marks of each path."""

    folder: Path | None = None
    entries: Mapping[str, FileRow] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    seen: Mapping[str, FileMark] = field(default_factory=dict)


class SnapshotDraft:
    """Collects the files of one snapshot in ``folder``; ``records`` holds length and digest of each."""

    def __init__(self, folder: Path, before: Known) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.written_bytes = 0
        self._before = before
        numbers = [int(match[1]) for name in before.records if (match := _NUMBER.fullmatch(name))]
        self._next = 1 + max(numbers, default=0)
        self._bundle: CopyTarget | None = None
        self._bundle_digest = Digest(preferred())
        self._twins: dict[tuple[int, int], FileExtent] = {}

    def add(self, path: str, seen: FileMark, length: int, *, grows: bool = False) -> FileExtent:
        """Copy the first ``length`` bytes of a file with these marks.

        Raises ChangedMeanwhile for changes other than allowed growth.
        """
        if seen.names > 1 and seen.inode in self._twins and self._twins[seen.inode].bytes == length:
            return self._twins[seen.inode]
        source = stable_copy.open_unchanged(path, seen.inode)
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

    def keep(self, entries: Iterable[FileRow]) -> list[FileRow]:
        """Carry unchanged entries over from the previous snapshot. Call it after all new files were added."""
        carried = list(entries)
        live = Counter[str]()
        for entry in carried:
            if entry.piece is not None:
                live[entry.piece.name] += entry.piece.bytes
        rewritten = {name for name, used in live.items() if self._needs_rewrite(name, used)}
        for name in sorted(live.keys() - rewritten):
            self._link(name)
        return [self._rewritten(entry) if entry.piece and entry.piece.name in rewritten else entry for entry in carried]

    def close(self) -> None:
        """Close the current bundle."""
        if self._bundle is not None:
            self._bundle.close()
            self.records[self._bundle.path.name] = (self._bundle.bytes, str(self._bundle_digest))
            self._bundle = None

    def write(self, name: str, body: bytes) -> None:
        """Write a small file of our own."""
        target, digest = CopyTarget(self.folder / name), Digest(preferred())
        digest.update(body)
        try:
            target.write(body)
        finally:
            target.close()
        self.records[name] = (len(body), str(digest))

    def _copied(self, source: int, length: int) -> FileExtent:
        if length < SEPARATE_BYTES_MIN:
            body = os.pread(source, length, 0)
            if len(body) != length:
                raise ChangedMeanwhile(f"a file of {length} bytes")
            return self._bundled(body)
        target = CopyTarget(self.folder / f"file-{self._number():06d}")
        try:
            copied = stable_copy.copy(source, target, length)
        finally:
            target.close()
        self.records[target.path.name] = (copied.bytes, copied.digest)
        self.written_bytes += copied.bytes
        return FileExtent(target.path.name, 0, copied.bytes, copied.digest)

    def _bundled(self, body: bytes) -> FileExtent:
        if self._bundle is not None and self._bundle.bytes + len(body) > BUNDLE_BYTES_MAX:
            self.close()
        if self._bundle is None:
            self._bundle = CopyTarget(self.folder / f"bundle-{self._number():06d}")
            self._bundle_digest = Digest(preferred())
        digest, offset = Digest(preferred()), self._bundle.bytes
        digest.update(body)
        self._bundle.write(body)
        self._bundle_digest.update(body)
        self.written_bytes += len(body)
        return FileExtent(self._bundle.path.name, offset, len(body), str(digest))

    def _needs_rewrite(self, name: str, used: int) -> bool:
        """Return True to rewrite a bundle: little of it is used, or it is small and another one is being written."""
        length = self._before.records[name][0]
        if not name.startswith("bundle-"):
            return False
        return used < LIVE_SHARE_MIN * length or (self._bundle is not None and length < SHARED_BYTES_MIN)

    def _rewritten(self, entry: FileRow) -> FileRow:
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
            target = CopyTarget(self.folder / name)
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                stable_copy.copy(descriptor, target, self._before.records[name][0])
            finally:
                os.close(descriptor)
                target.close()
        self.records[name] = self._before.records[name]

    def _number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number


def read(folder: Path, piece: FileExtent) -> bytes:
    """Return the bytes of an extent, measured. Raises OSError if they have changed."""
    with (folder / piece.name).open("rb", buffering=0) as file:
        body = os.pread(file.fileno(), piece.bytes, piece.offset)
    digest = Digest(algorithm_of(piece.digest))
    digest.update(body)
    if len(body) != piece.bytes or str(digest) != piece.digest:
        raise OSError(5, "it is not what was written", str(folder / piece.name))
    return body
