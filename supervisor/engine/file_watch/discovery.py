"""Finds files that a script saves without a known hook: new files of the working folder that look like state.

The working folder is scanned every few seconds, within limits. Folders of data, caches and trackers are skipped, and
mounts too, because a drive may hang.

A file counts when it is closed and unchanged for a while, and its name suggests state. A file that replaces another one
by a rename is complete at once. A file that changes more often than the scans counts between two writes. A less typical
name counts when the file is written again, when a similar one appears, or when the script has ended by itself.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from threading import Event as Flag
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from supervisor.core.checkpoint.file_manifest import FILE
from supervisor.core.unmodified import file_patterns, state_file_names
from supervisor.engine import threads
from supervisor.engine.file_watch import scan as folder_scan
from supervisor.engine.file_watch.open_files import opened_for_writing
from supervisor.engine.unmodified.snapshot import same_content

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from supervisor.core.ports import Clock
    from supervisor.engine.file_watch.scan import FileMark

SCAN_EVERY_S, SHARE = 2.0, 20.0  # time between scans; a scan may take at most one SHARE-th of the time
# for a file that changes between scans: number of states, and time unchanged between two writes
STATES_MIN, STILL_S = 3, 0.3
ENTRIES_MAX, FOLDER_MAX, DEPTH_MAX = 20_000, 4_000, 8
LOG_BYTES_MAX = 64 * 1024 * 1024
MOUNTS = "/proc/self/mountinfo"


_OF_A_RUN = re.compile(r"run\.json|e\d{8}-[0-9a-z]+")


class DiscoveryListener(Protocol):
    """Receives the findings; paths are relative to the root."""

    def found(self, path: str) -> None:
        """Take a file or folder that looks like state."""

    def beside(self, path: str) -> None:
        """Take a log beside the saved files."""

    def watched_paths(self) -> Collection[str]:
        """Return the watched paths: their changes need no scan."""

    def was_kept(self, path: str) -> bool:
        """Return True if this file was kept before: it is state, whatever its name."""

    def stepping(self) -> bool:
        """Return True once the script trains."""

    def scan_done(self) -> None:
        """Note the end of a scan."""


class Discovery:
    """Scans until it is stopped.

    Args:
        root: the working folder.
        clock: the clock.
        skipped: absolute paths of folders that do not belong to the script.
        listener: receives the findings.
        stores: folders that may hold the script's own files beside runs: the default store is ``./runs``.
    """

    def __init__(
        self, root: Path, clock: Clock, skipped: Collection[str], listener: DiscoveryListener, stores: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.root, self.clock, self.leader = root, clock, 0
        self._listener = listener
        self._skipped = {os.path.abspath(path) for path in skipped} | set(_mounts())  # noqa: PTH100  # does not ask a drive
        self._stores = {os.path.abspath(path) for path in stores}  # noqa: PTH100  # does not ask a drive
        self._first: dict[str, FileMark] | None = None
        self._put_back: frozenset[str] = frozenset()
        self._before: dict[str, FileMark] = {}
        self._early: dict[str, FileMark] = {}
        self._shapes: dict[str, set[tuple[str, int, int]]] = {}
        self._reported: dict[str, FileMark] = {}
        self._lock, self._over = RLock(), Flag()

    def begin(self, leader: int, put_back: Collection[str] = ()) -> None:
        """Start scanning. Files of the first scan and restored files are not new.

        Args:
            leader: the trainer's process session.
            put_back: the restored files.
        """
        self.leader, self._put_back = leader, frozenset(put_back)
        self._over = over = Flag()
        threads.start(partial(self._run, over), "discovery")

    def stop(self) -> None:
        """Stop scanning."""
        self._over.set()

    def end(self, *, trusted: bool) -> None:
        """Handle the end of the script. ``trusted``: it ended by itself, so all its files are complete."""
        self.stop()
        with self._lock:
            if trusted and self._first is not None:
                self.look(ended=True)

    def look(self, *, ended: bool = False) -> None:
        """Scan once."""
        with self._lock:
            scan = self._scan()
            if self._first is None:
                self._first, self._before, self._put_back = scan, scan, frozenset()
                return
            if self._put_back:
                self._first |= {path: seen for path, seen in scan.items() if file_patterns.within(path, self._put_back)}
                self._put_back = frozenset()
            new = {path: seen for path, seen in scan.items() if not same_content(self._first.get(path), seen)}
            kept = self._listener.watched_paths()
            waiting = {path: seen for path, seen in new.items() if not file_patterns.within(path, kept)}
            likely = {
                path: seen
                for path, seen in waiting.items()
                if state_file_names.likely(path)
                or state_file_names.marked_folder(path)
                or self._listener.was_kept(path)
            }
            accepted = self._accepted(likely, ended=ended) if likely else []
            for path, seen in new.items():
                if seen.size <= LOG_BYTES_MAX and path not in kept and _lies_beside(path, [*kept, *accepted]):
                    self._listener.beside(path)
            for path in accepted:
                self._listener.found(path)
            self._before = scan

    def unsaved(self) -> list[str]:
        """Return the new files that were not kept, the largest first."""
        kept, first = self._listener.watched_paths(), self._first or {}
        new = {path: seen for path, seen in self._before.items() if not same_content(first.get(path), seen)}
        rest = [
            path
            for path in new
            if not file_patterns.within(path, kept) and not file_patterns.is_temporary(path.rpartition("/")[2])
        ]
        return sorted(rest, key=lambda path: (-state_file_names.likely(path), -new[path].size, path))

    def logs_near(self, path: str) -> list[str]:
        """Return this run's logs in the folder of the save at this path."""
        first, found = self._first or {}, list[str]()
        for folder in dict.fromkeys(_folders_of(path)):
            with suppress(OSError), os.scandir(f"{self.root}/{folder}") as entries:
                for entry in entries:
                    log = f"{folder}/{entry.name}" if folder else entry.name
                    if state_file_names.has_lines_of_a_run(log) and entry.is_file(follow_symlinks=False):
                        seen = folder_scan.file_mark(entry.path, entry.stat(follow_symlinks=False))
                        found += [log] if seen.size <= LOG_BYTES_MAX and not same_content(first.get(log), seen) else []
        return found

    def _accepted(self, likely: dict[str, FileMark], *, ended: bool) -> list[str]:
        """Return the files that count."""
        root = os.path.realpath(self.root)
        kinds = None if ended else opened_for_writing(self.root, self.leader)
        opened = {os.path.relpath(path, root) for path in (kinds.written | kinds.appended if kinds else ())}
        stepping = self._listener.stepping()
        for path, seen in likely.items():
            if not stepping:
                self._early.setdefault(path, seen)
            self._shapes.setdefault(file_patterns.shape_of(path), set()).add((path, seen.size, seen.mtime_ns))
        accepted: dict[str, None] = {}
        for path, seen in sorted(likely.items()):
            before = self._before.get(path)
            settled = ended or same_content(before, seen) or (before is not None and before.inode != seen.inode)
            if path in opened or self._reported.get(path) == seen or not (settled or self._is_between_writes(path)):
                continue
            if ended or self._counts(path, seen, stepping=stepping):
                self._reported[path] = seen
                accepted[state_file_names.marked_folder(path) or path] = None
        return [path for path in accepted if not file_patterns.within(path.rpartition("/")[0], accepted)]

    def _is_between_writes(self, path: str) -> bool:
        """Return True if a file that changes between scans is closed and unchanged for a moment."""
        states = [each for each in self._shapes[file_patterns.shape_of(path)] if each[0] == path]
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

    def _counts(self, path: str, seen: FileMark, *, stepping: bool) -> bool:
        known = state_file_names.likely(path) == state_file_names.YES or state_file_names.marked_folder(path)
        if known or self._listener.was_kept(path):
            return True
        again = len(self._shapes[file_patterns.shape_of(path)]) > 1
        return again or (stepping and not same_content(self._early.get(path), seen))

    def _scan(self) -> dict[str, FileMark]:
        found: dict[str, FileMark] = {}
        for path, entry in _walk(os.fspath(self.root), self._skipped, self._stores):
            if len(found) >= ENTRIES_MAX:
                break
            with suppress(OSError):
                seen = folder_scan.file_mark(entry.path, entry.stat(follow_symlinks=False))
                if seen.kind == FILE:
                    found[path] = seen
        return found

    def _run(self, over: Flag) -> None:
        while not over.is_set():
            began_s = self.clock.now().mono_s
            self.look()
            self._listener.scan_done()
            over.wait(max(SCAN_EVERY_S, SHARE * (self.clock.now().mono_s - began_s)))


def _folders_of(path: str) -> tuple[str, str]:
    """Return the folder of a save and its parent."""
    folder = path.rpartition("/")[0]
    return folder, folder.rpartition("/")[0]


def _lies_beside(path: str, kept: Collection[str]) -> bool:
    if not state_file_names.has_lines_of_a_run(path):
        return False
    folder = path.rpartition("/")[0]
    return any(folder in _folders_of(each) for each in kept)


def _walk(root: str, skipped: Collection[str], stores: Collection[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files under ``root``, upper folders first, up to a limit of entries."""
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
            elif entry.path not in skipped and _is_scanned(entry.name) and above.count("/") < DEPTH_MAX:
                waiting.append((entry.path, f"{above}{entry.name}/"))


def _is_scanned(name: str) -> bool:
    return name.lower() not in state_file_names.PASSED_OVER and not file_patterns.is_temporary(name)


def on_a_drive(root: Path) -> bool:
    """Return True if the folder lies on a drive, which may hang: it is not scanned."""
    path, kinds = os.path.abspath(root), dict(_mounted())  # noqa: PTH100  # does not ask a drive
    while path not in kinds and path != os.sep:
        path = os.path.dirname(path)  # noqa: PTH120
    return kinds.get(path, "").startswith(("fuse", "nfs", "9p", "cifs"))


def _mounts() -> Iterator[str]:
    yield from (point for point, _ in _mounted())


def _mounted() -> Iterator[tuple[str, str]]:
    """Yield place and type of each mount."""
    with suppress(OSError), open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        for line in file:
            words = line.split()
            yield words[4].replace("\\040", " "), words[words.index("-") + 1]
