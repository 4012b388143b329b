"""Quiescent files: not written for a while, and not open for writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint.file_manifest import FILE
from supervisor.core.unmodified import file_patterns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from supervisor.engine.file_watch.scan import FileMark

QUIET_S = 2.0


class Quiescence:
    """Call ``update`` at every scan, and ``on_change`` and ``on_close`` at events of single files; times in seconds.

    A stream may grow at any time: it is never waited for.
    """

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self.quiet_s = quiet_s
        self._seen: dict[str, FileMark] = {}
        self._touched_s: dict[str, float] = {}
        self._busy_since_s: dict[str, float] = {}
        self._closed: set[str] = set()
        self._appended: frozenset[str] = frozenset()
        self._updated_s = 0.0

    def begin(self, scan: Mapping[str, FileMark]) -> None:
        """Take the present files as quiescent: no writer has started yet."""
        self._seen = dict(scan)
        self._touched_s.clear()
        self._busy_since_s.clear()
        self._closed.clear()

    def on_change(self, path: str, now_s: float) -> None:
        """Note that a file was made, written or renamed."""
        self._touched_s[path] = now_s
        self._busy_since_s.setdefault(path, now_s)
        self._closed.discard(path)

    def on_close(self, path: str, now_s: float) -> None:
        """Note that a writer closed the file."""
        self.on_change(path, now_s)
        self._closed.add(path)

    def update(
        self,
        scan: Mapping[str, FileMark],
        now_s: float,
        *,
        opened: Collection[str] = (),
        appended: Collection[str] = (),
    ) -> None:
        """Take in a scan's changes since the last one, with or without events.

        A file that replaced another one by a rename is closed.

        Args:
            scan: the scan.
            now_s: the time.
            opened: files open for writing.
            appended: files open for appending only, which makes them streams.
        """
        self._appended = frozenset(appended)
        for path, seen in scan.items():
            reported = self._touched_s.get(path, self._updated_s - 1.0) >= self._updated_s
            before = self._seen.get(path)
            if not reported and seen.kind == FILE and _signature(before) != _signature(seen):
                self.on_change(path, now_s)
                if before is not None and before.inode != seen.inode:
                    self._closed.add(path)
        for path in {*opened, *appended}:
            if path in scan:
                self.on_change(path, now_s)
        self._seen, self._updated_s = dict(scan), now_s

    def busy(self, now_s: float, *, hurried: bool = False) -> dict[str, float]:
        """Return the busy files with the time since when; ``hurried``: closed files count as quiescent."""
        found: dict[str, float] = {}
        for path, at_s in list(self._touched_s.items()):
            seen = self._seen.get(path)
            if now_s - at_s >= self.quiet_s:
                self._forget(path)
            elif seen is not None and seen.kind != FILE:
                continue
            elif not self._is_stream(path) and not (hurried and (path in self._closed or seen is None)):
                found[path] = now_s - self._busy_since_s[path]
        return found

    def growing(self, now_s: float) -> set[str]:
        """Return the streams that are being written."""
        busy = (path for path, at_s in list(self._touched_s.items()) if now_s - at_s < self.quiet_s)
        return {path for path in busy if self._is_stream(path)}

    def next_s(self, now_s: float) -> float:
        """Return in how many seconds the first busy file may be quiescent."""
        waits = (
            at_s + self.quiet_s - now_s for path, at_s in list(self._touched_s.items()) if not self._is_stream(path)
        )
        return max(0.05, min(waits, default=self.quiet_s))

    def _is_stream(self, path: str) -> bool:
        return path in self._appended or file_patterns.is_stream(path)

    def _forget(self, path: str) -> None:
        self._touched_s.pop(path, None)
        self._busy_since_s.pop(path, None)
        self._closed.discard(path)


def _signature(seen: FileMark | None) -> object:
    return None if seen is None else (seen.size, seen.mtime_ns, seen.ctime_ns, seen.inode)
