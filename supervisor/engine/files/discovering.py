"""Finds what a script saves by means that no hook knows: new files of the working folder that look like its state.

The working folder is looked at every few seconds, within bounds: folders of data, of caches and of trackers are passed over,
and so are mounts, because a drive may hang. A file counts when it is closed and still, and its name promises state. One that
another file has replaced under its name, as careful writers do, is whole and need not be still. One that is written more
often than it is looked at counts between two writes. A name that promises less counts when it is written again, when another one like it comes, or when the script has ended by itself.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from threading import Event as Flag
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from supervisor.core import naming, state_files
from supervisor.core.carried import FILE
from supervisor.engine import threads
from supervisor.engine.files import scanning
from supervisor.engine.files.open_files import opened_for_writing
from supervisor.engine.files.snapshots import same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from supervisor.core.ports import Clock
    from supervisor.engine.files.scanning import Seen

LOOK_S, SHARE = 2.0, 20.0  # between looks; a look may take one part in so many of the time
STATES_MIN, STILL_S = 3, 0.3  # of a file that is different at each look: between two writes it stays as it is so long
ENTRIES_MAX, FOLDER_MAX, DEPTH_MAX = 20_000, 4_000, 8
LOG_BYTES_MAX = 64 * 1024 * 1024
MOUNTS = "/proc/self/mountinfo"


_OF_A_RUN = re.compile(r"run\.json|e\d{8}-[0-9a-z]+")


class Listener(Protocol):
    """Hears of what is found; paths are relative to the root."""

    def found(self, path: str) -> None:
        """Take a file or folder that looks like state."""

    def beside(self, path: str) -> None:
        """Take a log that lies with what is saved."""

    def kept(self) -> Collection[str]:
        """Return what is watched by now: a change of it needs no other look."""

    def was_kept(self, path: str) -> bool:
        """Say whether this file was kept before: it is state, whatever its name."""

    def stepping(self) -> bool:
        """Say whether the script trains by now."""

    def looked(self) -> None:
        """Hear that a look is over."""


class Discovery:
    """Looks until it is stopped. ``passed_over``: absolute paths of folders that are not the script's.

    ``stores``: folders that may be the script's own too, beside the runs that lie in them: the default store is ``./runs``.
    """

    def __init__(
        self, root: Path, clock: Clock, passed_over: Collection[str], listener: Listener, stores: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.root, self.clock, self.leader = root, clock, 0
        self._listener = listener
        self._passed_over = {os.path.abspath(path) for path in passed_over} | set(_mounts())  # noqa: PTH100  # asks no drive
        self._stores = {os.path.abspath(path) for path in stores}  # noqa: PTH100  # asks no drive
        self._first: dict[str, Seen] | None = None
        self._put_back: frozenset[str] = frozenset()
        self._before: dict[str, Seen] = {}
        self._early: dict[str, Seen] = {}
        self._shapes: dict[str, set[tuple[str, int, int]]] = {}
        self._told: dict[str, Seen] = {}
        self._lock, self._over = RLock(), Flag()

    def begin(self, leader: int, put_back: Collection[str] = ()) -> None:
        """Look from now on; what is there at the first time is nothing new, nor are files that were put back since.

        ``leader``: the trainer's process session.
        """
        self.leader, self._put_back = leader, frozenset(put_back)
        self._over = over = Flag()
        threads.start(partial(self._run, over), "discovery")

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def end(self, *, trusted: bool) -> None:
        """The script is gone. ``trusted``: by itself, so that all it wrote is whole."""
        self.stop()
        with self._lock:
            if trusted and self._first is not None:
                self.look(ended=True)

    def look(self, *, ended: bool = False) -> None:
        """Look once."""
        with self._lock:
            scan = self._scan()
            if self._first is None:
                self._first, self._before, self._put_back = scan, scan, frozenset()
                return
            if self._put_back:
                self._first |= {path: seen for path, seen in scan.items() if naming.within(path, self._put_back)}
                self._put_back = frozenset()
            new = {path: seen for path, seen in scan.items() if not same(self._first.get(path), seen)}
            kept = self._listener.kept()
            waiting = {path: seen for path, seen in new.items() if not naming.within(path, kept)}
            likely = {
                path: seen
                for path, seen in waiting.items()
                if state_files.likely(path) or state_files.marked_folder(path) or self._listener.was_kept(path)
            }
            accepted = self._judged(likely, ended=ended) if likely else []
            for path, seen in new.items():
                if seen.size <= LOG_BYTES_MAX and path not in kept and _lies_beside(path, [*kept, *accepted]):
                    self._listener.beside(path)
            for path in accepted:
                self._listener.found(path)
            self._before = scan

    def left(self) -> list[str]:
        """Return the files that are new and of which nothing was kept, the largest first."""
        kept, first = self._listener.kept(), self._first or {}
        new = {path: seen for path, seen in self._before.items() if not same(first.get(path), seen)}
        rest = [
            path for path in new if not naming.within(path, kept) and not naming.is_temporary(path.rpartition("/")[2])
        ]
        return sorted(rest, key=lambda path: (-state_files.likely(path), -new[path].size, path))

    def logs_beside(self, path: str) -> list[str]:
        """Return the logs of this run that lie beside what is saved at this path, by a look at its own folder."""
        first, found = self._first or {}, list[str]()
        for folder in dict.fromkeys(_folders_of(path)):
            with suppress(OSError), os.scandir(f"{self.root}/{folder}") as entries:
                for entry in entries:
                    log = f"{folder}/{entry.name}" if folder else entry.name
                    if state_files.has_lines_of_a_run(log) and entry.is_file(follow_symlinks=False):
                        seen = scanning.seen_as(entry.path, entry.stat(follow_symlinks=False))
                        found += [log] if seen.size <= LOG_BYTES_MAX and not same(first.get(log), seen) else []
        return found

    def _judged(self, likely: dict[str, Seen], *, ended: bool) -> list[str]:
        """Return which of them count."""
        root = os.path.realpath(self.root)
        kinds = None if ended else opened_for_writing(self.root, self.leader)
        opened = {os.path.relpath(path, root) for path in (kinds.written | kinds.appended if kinds else ())}
        stepping = self._listener.stepping()
        for path, seen in likely.items():
            if not stepping:
                self._early.setdefault(path, seen)
            self._shapes.setdefault(naming.shape_of(path), set()).add((path, seen.size, seen.mtime_ns))
        accepted: dict[str, None] = {}
        for path, seen in sorted(likely.items()):
            before = self._before.get(path)
            settled = ended or same(before, seen) or (before is not None and before.inode != seen.inode)
            if path in opened or self._told.get(path) == seen or not (settled or self._is_between_writes(path)):
                continue
            if ended or self._counts(path, seen, stepping=stepping):
                self._told[path] = seen
                accepted[state_files.marked_folder(path) or path] = None
        return [path for path in accepted if not naming.within(path.rpartition("/")[0], accepted)]

    def _is_between_writes(self, path: str) -> bool:
        """Say whether a file that was different at each look is closed and still for a moment."""
        states = [each for each in self._shapes[naming.shape_of(path)] if each[0] == path]
        if len(states) < STATES_MIN:
            return False
        whole, root = f"{self.root}/{path}", os.path.realpath(self.root)
        try:
            before = os.stat(whole)  # noqa: PTH116  # as scanning does
            self._over.wait(STILL_S)
            after = os.stat(whole)  # noqa: PTH116
        except OSError:
            return False
        kinds = opened_for_writing(self.root, self.leader)
        opened = {os.path.relpath(each, root) for each in kinds.written | kinds.appended}
        return (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size) and path not in opened

    def _counts(self, path: str, seen: Seen, *, stepping: bool) -> bool:
        known = state_files.likely(path) == state_files.YES or state_files.marked_folder(path)
        if known or self._listener.was_kept(path):
            return True
        again = len(self._shapes[naming.shape_of(path)]) > 1
        return again or (stepping and not same(self._early.get(path), seen))

    def _scan(self) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        for path, entry in _walk(os.fspath(self.root), self._passed_over, self._stores):
            if len(found) >= ENTRIES_MAX:
                break
            with suppress(OSError):
                seen = scanning.seen_as(entry.path, entry.stat(follow_symlinks=False))
                if seen.kind == FILE:
                    found[path] = seen
        return found

    def _run(self, over: Flag) -> None:
        while not over.is_set():
            began_s = self.clock.now().mono_s
            self.look()
            self._listener.looked()
            over.wait(max(LOOK_S, SHARE * (self.clock.now().mono_s - began_s)))


def _folders_of(path: str) -> tuple[str, str]:
    """Return the folder of a save and the one above it."""
    folder = path.rpartition("/")[0]
    return folder, folder.rpartition("/")[0]


def _lies_beside(path: str, kept: Collection[str]) -> bool:
    if not state_files.has_lines_of_a_run(path):
        return False
    folder = path.rpartition("/")[0]
    return any(folder in _folders_of(each) for each in kept)


def _walk(root: str, passed_over: Collection[str], stores: Collection[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files under ``root``, those of the upper folders first; at most so many entries in all."""
    waiting, seen = [(root, "")], 0
    while waiting:
        folder, above = waiting.pop(0)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            continue
        if os.path.dirname(folder) in stores and any(_OF_A_RUN.fullmatch(entry.name) for entry in entries):  # noqa: PTH120
            continue
        seen += len(entries)
        if seen > ENTRIES_MAX or (len(entries) > FOLDER_MAX and above):
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield above + entry.name, entry
            elif entry.path not in passed_over and _is_looked_into(entry.name) and above.count("/") < DEPTH_MAX:
                waiting.append((entry.path, f"{above}{entry.name}/"))


def _is_looked_into(name: str) -> bool:
    return name.lower() not in state_files.PASSED_OVER and not naming.is_temporary(name)


def on_a_drive(root: Path) -> bool:
    """Say whether the folder lies on a drive that may hang: there nothing is looked for."""
    path, kinds = os.path.abspath(root), dict(_mounted())  # noqa: PTH100  # asks no drive
    while path not in kinds and path != os.sep:
        path = os.path.dirname(path)  # noqa: PTH120
    return kinds.get(path, "").startswith(("fuse", "nfs", "9p", "cifs"))


def _mounts() -> Iterator[str]:
    yield from (point for point, _ in _mounted())


def _mounted() -> Iterator[tuple[str, str]]:
    """Yield where each mount lies, and its kind."""
    with suppress(OSError), open(MOUNTS, encoding="utf-8", errors="surrogateescape") as told:  # noqa: PTH123
        for line in told:
            words = line.split()
            yield words[4].replace("\\040", " "), words[words.index("-") + 1]
