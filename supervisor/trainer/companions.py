"""Files of the script that are kept beside the attached state, in the same checkpoint and of the same step.

Theory of operation. A script that calls attach() often writes files, too: the best model so far, a CSV log. They must go
back together: a best model of step 900 beside the state of step 400 is a file that no uninterrupted run ever had.

- At a save the training loop stands still at a step boundary. ``CompanionFiles.take`` looks at every file then. A file
  that changed since the save before is copied: a small one into memory, a large one into a spool folder beside the staged
  checkpoints. This costs the loop one copy of the files that changed, and one ``stat`` of each other file.
- The writer thread hashes the copies, links them into the checkpoint's folder and writes ``files.json``
  (``core/carried.py``), which names each file's path, mode and time. The spool is private and never written again, so that
  a link is as good as a copy.
- At the resume the supervisor makes the files what ``files.json`` says, before it starts the script
  (``engine/files/putting_back.py``).

What is kept: the folder of ``--watch``, and the paths that a callback names (``CompanionFiles.add``).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import carried as form
from supervisor.core import naming
from supervisor.core.carried import FILE, FILES_FILE, FOLDER, LINK, Carried, Entry, Piece
from supervisor.core.digest import Digest, digest_of, preferred
from supervisor.trainer.writer import TEMPORARY, NewFile, Record

if TYPE_CHECKING:
    from pathlib import Path

SPOOL = f"{TEMPORARY}companions"  # the next process removes it with all that is half-written
SMALL_BYTES_MAX = 256 * 1024
SMALL_TOTAL_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 4 * 1024 * 1024
TRIES = 3

Paths = Callable[[], Iterable["str | os.PathLike[str]"]]


class _Marks(NamedTuple):
    """A file as ``lstat`` shows it. Equal marks mean equal content, within a tick of the file system's clock."""

    mode: int
    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: tuple[int, int]


class _Copy:
    """The content of one file at one step: in memory (``body``) or in the spool (``path``). ``record`` once it is hashed."""

    def __init__(self, marks: _Marks, *, body: bytes | None = None, path: Path | None = None) -> None:
        self.marks, self.body, self.path = marks, body, path
        self.record: Record | None = None

    def hashed(self) -> Record:
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
    """The companion files of one checkpoint. Made at the boundary; ``files`` is called by the writer thread."""

    def __init__(self, step: int, called: str, names: dict[str, _Copy | Entry], number: int) -> None:
        self._step, self._called, self._names, self._number = step, called, names, number

    def files(self) -> list[NewFile]:
        """Return what is to be written into the checkpoint's folder: the large files, one bundle, ``files.json``."""
        bundle, bundled, offset = f"bundle-{self._number:06d}", list[memoryview](), 0
        made: list[NewFile] = []
        entries: list[Entry] = []
        for path, copy in sorted(self._names.items()):
            if isinstance(copy, Entry):
                entries.append(copy)
                continue
            size, digest = copy.hashed()
            if copy.body is not None:
                piece = Piece(bundle, offset, size, digest)
                bundled.append(memoryview(copy.body))
                offset += size
            else:
                assert copy.path is not None
                piece = Piece(copy.path.name, 0, size, digest)
                made.append(NewFile(copy.path.name, whole=(copy.path, (size, digest))))
            entries.append(Entry(path, FILE, copy.marks.mode, copy.marks.mtime_ns, piece))
        if bundled:
            made.append(NewFile(bundle, bundled))
        body = form.body(Carried(self._step, self._called, tuple(entries)))
        return [*made, NewFile(FILES_FILE, [memoryview(body)])]


class CompanionFiles:
    """Finds and copies the files. Only the loop's thread calls it, while no checkpoint is being written."""

    def __init__(
        self, working: Path, called: str, staging: Path, say: Callable[[str], None], *, supervised: bool = True
    ) -> None:
        self._supervised = supervised
        self._root = working / called if called else working
        self._called = called
        self._spool = staging / SPOOL
        self._say = say
        self._named: list[Paths] = []
        self._copies: dict[str, _Copy] = {}
        self._number = self._held_bytes = 0
        self._said: set[str] = set()

    @property
    def any(self) -> bool:
        """There is something to keep."""
        return self._supervised and bool(self._called or self._named)

    def add(self, paths: Paths) -> None:
        """Keep the files and folders that ``paths()`` names at each save."""
        self._named.append(paths)

    def covers(self, path: str) -> bool:
        """Say whether a path is kept: it lies in the watched folder, or a callback names it or a folder around it."""
        inside = self._inside(path)
        if inside is None:
            return False
        named = {self._inside(each) for paths in self._named for each in paths()}
        return bool(self._called) or any(
            each is not None and (inside == each or inside.startswith(f"{each}/")) for each in named
        )

    def take(self, step: int) -> Companions | None:
        """Copy what changed; return the files of this step, None where nothing is to be kept. Raises OSError."""
        if not self.any:
            return None
        names: dict[str, _Copy | Entry] = {}
        self._held_bytes = sum(len(copy.body) for copy in self._copies.values() if copy.body is not None)
        for path in self._wanted():
            self._look(path, names)
        kept = {path: copy for path, copy in names.items() if isinstance(copy, _Copy)}
        used = {copy.path for copy in kept.values()}
        for copy in self._copies.values():
            if copy.path is not None and copy.path not in used:
                copy.path.unlink(missing_ok=True)
        self._copies = kept
        self._number += 1
        return Companions(step, self._called, names, self._number)

    def _wanted(self) -> list[str]:
        if self._called:
            return [""]
        inside = (self._inside(each) for paths in self._named for each in paths())
        return sorted({path for path in inside if path})

    def _inside(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path from the root; None, and a word to the user, for one that lies outside."""
        text = os.path.relpath(os.path.join(self._root, os.fspath(path)), self._root)  # noqa: PTH118  # no link is followed
        if text in {".", ".."} or text.startswith("../"):
            words = f"{path} lies outside {self._called or 'the working folder'} and is not part of the checkpoints"
            self._say_once(str(path), f"{words}: on another machine it is missing; --watch DIR keeps the folder DIR")
            return None
        return text

    def _look(self, path: str, names: dict[str, _Copy | Entry]) -> None:
        full = os.path.join(self._root, path) if path else os.fspath(self._root)  # noqa: PTH118  # no link is followed
        try:
            of = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(of.st_mode):
            if path:
                names[path] = Entry(path, FOLDER, stat.S_IMODE(of.st_mode))
            with os.scandir(full) as entries:
                inside = sorted(entry.name for entry in entries if not naming.is_temporary(entry.name))
            for name in inside:
                self._look(f"{path}/{name}" if path else name, names)
        elif stat.S_ISLNK(of.st_mode):
            names[path] = Entry(path, LINK, target=os.readlink(full))  # noqa: PTH115  # a Path would change the text
        elif stat.S_ISREG(of.st_mode):
            copy = self._copied(full, path, _marks(of))
            if copy is not None:
                names[path] = copy
        else:
            self._say_once(path, f"{path!r} is neither file, folder nor link: it is not part of the checkpoints")

    def _copied(self, full: str, path: str, marks: _Marks) -> _Copy | None:
        """Return the file's copy of this moment; of one that changes all the time the copy before, if there is one."""
        known = self._copies.get(path)
        for _ in range(TRIES):
            if known is not None and known.marks == marks:
                return known
            try:
                copy = self._read(full, marks)
                after = _marks(os.lstat(full))
            except FileNotFoundError:
                return None
            if after == marks:
                return copy
            if copy.path is not None:
                copy.path.unlink(missing_ok=True)
            marks = after
        self._say_once(path, f"{path!r} changes while it is copied: the checkpoints keep an older copy of it, or none")
        return known

    def _read(self, full: str, marks: _Marks) -> _Copy:
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as source:  # noqa: PTH123  # it must not follow a link
            if marks.bytes <= SMALL_BYTES_MAX and self._held_bytes + marks.bytes <= SMALL_TOTAL_MAX:
                self._held_bytes += marks.bytes
                return _Copy(marks, body=source.read(SMALL_BYTES_MAX + 1))
            self._spool.mkdir(parents=True, exist_ok=True)
            self._number += 1
            target = self._spool / f"file-{self._number:06d}"
            with target.open("xb") as into:
                shutil.copyfileobj(source, into, CHUNK_BYTES)
            return _Copy(marks, path=target)

    def _say_once(self, path: str, words: str) -> None:
        if path not in self._said:
            self._said.add(path)
            self._say(words)


def _marks(of: os.stat_result) -> _Marks:
    return _Marks(stat.S_IMODE(of.st_mode), of.st_size, of.st_mtime_ns, of.st_ctime_ns, (of.st_dev, of.st_ino))
