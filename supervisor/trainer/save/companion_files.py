"""Files of the script that are saved beside the attached state, in the same checkpoint and of the same step.

Theory of operation. A script that calls attach() often writes files, too: the best model so far, a CSV log. They must be
restored
together with the state. A best model of step 900 beside the state of step 400 would be a file that no uninterrupted run had.

- At a save, the training loop waits at a step boundary. ``CompanionFiles.snapshot`` examines every file then. A file that
  changed since the last save is copied: a small one into memory, a large one into a spool folder beside the staged
  checkpoints. This costs the loop one copy of the changed files, and one ``stat`` of each other file.
- The writer thread hashes the copies, links them into the checkpoint's folder and writes ``files.json``
  (``core/checkpoint/file_manifest.py``), which has each file's path, mode and time. The spool is private and never written
again,
  so that a link is as good as a copy.
- At the resume, the supervisor restores the files as ``files.json`` says, before it starts the script
  (``engine/unmodified/restore.py``).

Saved are the folder of ``--watch-dir``, and the paths that a callback names (``CompanionFiles.add``).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.checkpoint import file_manifest as form
from supervisor.core.checkpoint.file_manifest import FILE, FILES_FILE, FOLDER, LINK, FileExtent, FileManifest, FileRow
from supervisor.core.digest import Digest, digest_of, preferred
from supervisor.core.unmodified import file_patterns
from supervisor.trainer.save.writer import TEMPORARY, NewFile, Record

if TYPE_CHECKING:
    from pathlib import Path

SPOOL = f"{TEMPORARY}companions"  # the next process removes it with all that is half-written
SMALL_BYTES_MAX = 256 * 1024
SMALL_TOTAL_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 4 * 1024 * 1024
TRIES = 3

Paths = Callable[[], Iterable["str | os.PathLike[str]"]]


class _FileSignature(NamedTuple):
    """A file as ``lstat`` shows it. Equal signatures mean equal content, within a tick of the file system's clock."""

    mode: int
    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: tuple[int, int]


class _Copy:
    """The content of one file at one step: in memory (``body``) or in the spool (``path``)."""

    def __init__(self, signature: _FileSignature, *, body: bytes | None = None, path: Path | None = None) -> None:
        self.signature, self.body, self.path = signature, body, path
        self.record: Record | None = None

    def compute_record(self) -> Record:
        """Return length and digest; reads the spooled file once."""
        if self.record is None:
            if self.body is not None:
                self.record = len(self.body), digest_of((self.body,), preferred())
            else:
                assert self.path is not None
                digest, size = Digest(preferred()), 0
                with self.path.open("rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        digest.update(chunk)
                        size += len(chunk)
                self.record = size, str(digest)
        return self.record


class Companions:
    """The companion files of one checkpoint. Made at the boundary; the writer thread calls ``files``."""

    def __init__(self, step: int, watch_dir: str, names: dict[str, _Copy | FileRow], number: int) -> None:
        self._step, self._watch_dir, self._names, self._number = step, watch_dir, names, number

    def files(self) -> list[NewFile]:
        """Return the files to write into the checkpoint's folder: the large files, one bundle, ``files.json``."""
        bundle, bundled, offset = f"bundle-{self._number:06d}", list[memoryview](), 0
        made: list[NewFile] = []
        entries: list[FileRow] = []
        for path, copy in sorted(self._names.items()):
            if isinstance(copy, FileRow):
                entries.append(copy)
                continue
            size, digest = copy.compute_record()
            if copy.body is not None:
                piece = FileExtent(bundle, offset, size, digest)
                bundled.append(memoryview(copy.body))
                offset += size
            else:
                assert copy.path is not None
                piece = FileExtent(copy.path.name, 0, size, digest)
                made.append(NewFile(copy.path.name, finished=(copy.path, (size, digest))))
            entries.append(FileRow(path, FILE, copy.signature.mode, copy.signature.mtime_ns, piece))
        if bundled:
            made.append(NewFile(bundle, bundled))
        body = form.to_bytes(FileManifest(self._step, self._watch_dir, tuple(entries)))
        return [*made, NewFile(FILES_FILE, [memoryview(body)])]


class CompanionFiles:
    """Finds and copies the files. Only the loop's thread calls it, while no checkpoint is being written."""

    def __init__(
        self, working: Path, watch_dir: str, staging: Path, warn: Callable[[str], None], *, supervised: bool = True
    ) -> None:
        self._supervised = supervised
        self._root = working / watch_dir if watch_dir else working
        self._watch_dir = watch_dir
        self._spool = staging / SPOOL
        self._warn = warn
        self._path_sources: list[Paths] = []
        self._copies: dict[str, _Copy] = {}
        self._number = self._memory_bytes = 0
        self._warned: set[str] = set()

    @property
    def is_active(self) -> bool:
        """There are files to save."""
        return self._supervised and bool(self._watch_dir or self._path_sources)

    def add(self, paths: Paths) -> None:
        """Save the files and folders that ``paths()`` names at each save."""
        self._path_sources.append(paths)

    def covers(self, path: str) -> bool:
        """Return whether a path is saved: it lies in the watched folder, or a callback names it or its folder."""
        inside = self._relative(path)
        if inside is None:
            return False
        named = {self._relative(each) for paths in self._path_sources for each in paths()}
        return bool(self._watch_dir) or any(
            each is not None and (inside == each or inside.startswith(f"{each}/")) for each in named
        )

    def snapshot(self, step: int) -> Companions | None:
        """Copy the changed files; return the files of this step, None if there are none to save. Raises OSError."""
        if not self.is_active:
            return None
        names: dict[str, _Copy | FileRow] = {}
        self._memory_bytes = sum(len(copy.body) for copy in self._copies.values() if copy.body is not None)
        for path in self._roots():
            self._scan(path, names)
        stored = {path: copy for path, copy in names.items() if isinstance(copy, _Copy)}
        used = {copy.path for copy in stored.values()}
        for copy in self._copies.values():
            if copy.path is not None and copy.path not in used:
                copy.path.unlink(missing_ok=True)
        self._copies = stored
        self._number += 1
        return Companions(step, self._watch_dir, names, self._number)

    def _roots(self) -> list[str]:
        if self._watch_dir:
            return [""]
        inside = (self._relative(each) for paths in self._path_sources for each in paths())
        return sorted({path for path in inside if path})

    def _relative(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path relative to the root; None, and a warning, for a path outside."""
        text = os.path.relpath(os.path.join(self._root, os.fspath(path)), self._root)  # noqa: PTH118  # no link is followed
        if text in {".", ".."} or text.startswith("../"):
            message = (
                f"{path} lies outside {self._watch_dir or 'the working folder'} and is not part of the checkpoints"
            )
            self._warn_once(
                str(path), f"{message}: on another machine it is missing; --watch-dir DIR keeps the folder DIR"
            )
            return None
        return text

    def _scan(self, path: str, names: dict[str, _Copy | FileRow]) -> None:
        full = os.path.join(self._root, path) if path else os.fspath(self._root)  # noqa: PTH118  # no link is followed
        try:
            of = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(of.st_mode):
            if path:
                names[path] = FileRow(path, FOLDER, stat.S_IMODE(of.st_mode))
            with os.scandir(full) as entries:
                inside = sorted(entry.name for entry in entries if not file_patterns.is_temporary(entry.name))
            for name in inside:
                self._scan(f"{path}/{name}" if path else name, names)
        elif stat.S_ISLNK(of.st_mode):
            names[path] = FileRow(path, LINK, target=os.readlink(full))  # noqa: PTH115  # a Path would change the text
        elif stat.S_ISREG(of.st_mode):
            copy = self._copy_file(full, path, _file_signature(of))
            if copy is not None:
                names[path] = copy
        else:
            self._warn_once(path, f"{path!r} is neither file, folder nor link: it is not part of the checkpoints")

    def _copy_file(self, full: str, path: str, signature: _FileSignature) -> _Copy | None:
        """Return the file's current copy; of a file that changes all the time the previous copy, if any."""
        known = self._copies.get(path)
        for _ in range(TRIES):
            if known is not None and known.signature == signature:
                return known
            try:
                copy = self._read(full, signature)
                after = _file_signature(os.lstat(full))
            except FileNotFoundError:
                return None
            if after == signature:
                return copy
            if copy.path is not None:
                copy.path.unlink(missing_ok=True)
            signature = after
        self._warn_once(path, f"{path!r} changes while it is copied: the checkpoints keep an older copy of it, or none")
        return known

    def _read(self, full: str, signature: _FileSignature) -> _Copy:
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as source:  # noqa: PTH123  # it must not follow a link
            if signature.bytes <= SMALL_BYTES_MAX and self._memory_bytes + signature.bytes <= SMALL_TOTAL_MAX:
                self._memory_bytes += signature.bytes
                return _Copy(signature, body=source.read(SMALL_BYTES_MAX + 1))
            self._spool.mkdir(parents=True, exist_ok=True)
            self._number += 1
            target = self._spool / f"file-{self._number:06d}"
            with target.open("xb") as into:
                shutil.copyfileobj(source, into, CHUNK_BYTES)
            return _Copy(signature, path=target)

    def _warn_once(self, path: str, message: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            self._warn(message)


def _file_signature(of: os.stat_result) -> _FileSignature:
    return _FileSignature(stat.S_IMODE(of.st_mode), of.st_size, of.st_mtime_ns, of.st_ctime_ns, (of.st_dev, of.st_ino))
