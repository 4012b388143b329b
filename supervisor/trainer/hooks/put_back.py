"""Which of the files that were put back are opened for reading: what a script goes on from, it must read first.

The system tells (inotify), so that readers written in C++, memory maps and child processes count too. A file that was
only listed or looked at with stat() was not opened; one that was written into is no longer what was put back.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from threading import Lock
from typing import Any

ACCESS, MODIFY, CLOSED_UNWRITTEN, OPEN = 0x1, 0x2, 0x10, 0x20
OVERFLOW = 0x4000
FILES_MAX = 20_000  # each is one watch, of which the system has so many
READ_BYTES = 256 * 1024
_EVENT = struct.Struct("iIII")


class PutBack:
    """``paths``: the files, absolute. ``look`` may be called from any thread."""

    def __init__(self, paths: list[str]) -> None:
        self.opened = ""  # the first that was opened for reading
        self._system: Any = None
        self._descriptor = -1
        self._watched: dict[int, str] = {}
        self._pending: set[int] = set()  # opened, and neither read, closed nor written since
        self._lock = Lock()
        self._owner = os.getpid()
        try:
            self._watch(paths)
        except (OSError, AttributeError, ImportError):  # a system without it, or without room for so many
            self._end()

    @property
    def known(self) -> bool:
        """Whether it is certain that a file was opened, or that none was."""
        return bool(self.opened) or self._descriptor >= 0

    def look(self) -> str:
        """Return the first file that was opened for reading so far; "" for none."""
        with self._lock:
            if self._descriptor >= 0 and not self.opened and os.getpid() == self._owner:
                try:
                    self._read_events()
                    self.opened = self.opened or self._still_open()
                except OSError:  # the script closed what it did not know
                    self._descriptor = -1
                if self.opened:
                    self._end()
            return self.opened

    def _watch(self, paths: list[str]) -> None:
        import ctypes  # 2 ms that only a script with files to go on from spends

        system = ctypes.CDLL(None, use_errno=True)
        descriptor = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._system, self._descriptor = system, descriptor
        mask = ACCESS | MODIFY | CLOSED_UNWRITTEN | OPEN
        for path in paths:
            watch = system.inotify_add_watch(descriptor, os.fsencode(path), mask)
            if watch >= 0:
                self._watched[watch] = path
            elif os.path.lexists(path):
                raise OSError(ctypes.get_errno(), "inotify_add_watch", path)

    def _read_events(self) -> None:
        while True:
            try:
                body = os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(body):
                watch, mask, _, length = _EVENT.unpack_from(body, at)
                at += _EVENT.size + length
                self._heard(watch, mask)

    def _heard(self, watch: int, mask: int) -> None:
        path = self._watched.get(watch)
        if mask & OVERFLOW:  # some were not told: so many happen only to files that are in use
            self.opened = self.opened or next(iter(self._watched.values()), "")
        elif path is None:
            return
        elif mask & (ACCESS | CLOSED_UNWRITTEN):
            self.opened = self.opened or path
        elif mask & OPEN:
            self._pending.add(watch)
        elif mask & MODIFY:  # who reads it from here on, reads something new; the supervisor does so too
            self._watched.pop(watch)
            self._pending.discard(watch)
            self._system.inotify_rm_watch(self._descriptor, watch)

    def _still_open(self) -> str:
        """Return a file that this process holds open for reading, or mapped: of a read of memory no system tells."""
        if not self._pending:
            return ""
        inodes = {}
        for watch in self._pending:
            try:
                found = Path(self._watched[watch]).stat()
            except OSError:
                continue
            inodes[found.st_dev, found.st_ino] = self._watched[watch]
        for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  # of names alone
            try:
                found = os.fstat(number)
                flags = Path(f"/proc/self/fdinfo/{number}").read_text("ascii").split("flags:", 1)[1].split()[0]
            except (OSError, IndexError):
                continue
            if (found.st_dev, found.st_ino) in inodes and int(flags, 8) & os.O_ACCMODE != os.O_WRONLY:
                return inodes[found.st_dev, found.st_ino]
        return ""

    def _end(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def begin(listing: str) -> PutBack | None:
    """Watch the files that ``listing`` names, a JSON array of paths; None where there are none, or too many to watch."""
    try:
        paths = json.loads(Path(listing).read_bytes()) if listing else []
    except (OSError, ValueError):
        return None
    return PutBack(paths) if 0 < len(paths) <= FILES_MAX else None
