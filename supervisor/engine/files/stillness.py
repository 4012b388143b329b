"""Which files are still: nobody wrote into them for a while, and nobody has them open for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import naming
from supervisor.core.carried import FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from supervisor.engine.files.scanning import Seen

QUIET_S = 2.0


class Stillness:
    """``look`` at every scan, and ``touched``, ``closed`` where the system tells of single files; times in seconds.

    A stream grows as it likes: it is never waited for.
    """

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self.quiet_s = quiet_s
        self._seen: dict[str, Seen] = {}
        self._touched_s: dict[str, float] = {}
        self._busy_since_s: dict[str, float] = {}
        self._closed: set[str] = set()
        self._appended: frozenset[str] = frozenset()
        self._looked_s = 0.0

    def begin(self, scan: Mapping[str, Seen]) -> None:
        """Take what is there now for still: nobody has begun to write yet."""
        self._seen = dict(scan)
        self._touched_s.clear()
        self._busy_since_s.clear()
        self._closed.clear()

    def touched(self, path: str, now_s: float) -> None:
        """Somebody made, wrote or renamed it."""
        self._touched_s[path] = now_s
        self._busy_since_s.setdefault(path, now_s)
        self._closed.discard(path)

    def closed(self, path: str, now_s: float) -> None:
        """Who wrote into it has closed it."""
        self.touched(path, now_s)
        self._closed.add(path)

    def look(
        self, scan: Mapping[str, Seen], now_s: float, *, opened: Collection[str] = (), appended: Collection[str] = ()
    ) -> None:
        """Learn from a scan what has changed since the last, told of or not.

        ``opened``: is open for writing; ``appended``: for nothing but to add at its end, which makes it a stream.
        A file that another one has replaced under its name was renamed there: it is closed.
        """
        self._appended = frozenset(appended)
        for path, seen in scan.items():
            told = self._touched_s.get(path, self._looked_s - 1.0) >= self._looked_s
            before = self._seen.get(path)
            if not told and seen.kind == FILE and _marks(before) != _marks(seen):
                self.touched(path, now_s)
                if before is not None and before.inode != seen.inode:
                    self._closed.add(path)
        for path in {*opened, *appended}:
            if path in scan:
                self.touched(path, now_s)
        self._seen, self._looked_s = dict(scan), now_s

    def busy(self, now_s: float, *, hurried: bool = False) -> dict[str, float]:
        """Return the files that are not still, each with how long it has not been; ``hurried``: what is closed counts as still."""
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
        """Return the streams that somebody writes into."""
        busy = (path for path, at_s in list(self._touched_s.items()) if now_s - at_s < self.quiet_s)
        return {path for path in busy if self._is_stream(path)}

    def next_s(self, now_s: float) -> float:
        """Return in how many seconds the first of the busy files may be still."""
        waits = (
            at_s + self.quiet_s - now_s for path, at_s in list(self._touched_s.items()) if not self._is_stream(path)
        )
        return max(0.05, min(waits, default=self.quiet_s))

    def _is_stream(self, path: str) -> bool:
        return path in self._appended or naming.is_stream(path)

    def _forget(self, path: str) -> None:
        self._touched_s.pop(path, None)
        self._busy_since_s.pop(path, None)
        self._closed.discard(path)


def _marks(seen: Seen | None) -> object:
    return None if seen is None else (seen.size, seen.mtime_ns, seen.ctime_ns, seen.inode)
