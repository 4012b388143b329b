"""The trainer's output: shown at once, kept on the local disk, and written to the store in closed pieces."""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from supervisor.core.wire import fields

if TYPE_CHECKING:
    from pathlib import Path

PIECE = re.compile(rf"output-([0-9]{{4,9}})-([0-9]{{6,9}}){fields.TWIN}\.log")
OUTPUT = re.compile(r"output-([0-9]{4,9})\.log")  # for one attempt, on its machine
PIECE_BYTES_MAX = 4 * 1024 * 1024
TAIL_LINES = 20
LINE_BYTES_MAX = 64 * 1024


class LogCapture:
    """Receives bytes on the reader's thread. Pieces are taken on the loop's thread."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.attempt = 0
        self.number = 0
        self._file: Path | None = None
        self._pending: list[tuple[int, bytes]] = []
        self._pending_bytes = 0
        self._unwritten: list[tuple[str, bytes]] = []
        self._rest = b""
        self._lock = Lock()

    def begin(self, attempt: int, file: Path) -> None:
        """Start the output of a new attempt."""
        with self._lock:
            self.attempt, self._file, self._rest = attempt, file, b""
            self.tail.clear()

    def add(self, text: bytes) -> list[bytes]:
        """Add output; return the complete lines to show.

        A carriage return ends a line too. Of a progress bar only the last state is kept.
        """
        with self._lock:
            if self._file is not None:
                # a full local disk must not stop the reader: the trainer would block on its full pipe
                with suppress(OSError), self._file.open("ab") as file:
                    file.write(text)
            self._keep(text)
            *lines, self._rest = (self._rest + text).split(b"\n")
            if len(self._rest) > LINE_BYTES_MAX:
                lines, self._rest = [*lines, self._rest], b""
            shown = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines]
            self.tail.extend(line.decode("utf-8", "replace") for line in shown)
        return shown

    def take(self) -> list[tuple[str, bytes]]:
        """Return the pieces (name, body) that are not in the store yet, returned ones first."""
        with self._lock:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            pieces, self._unwritten = self._unwritten, []
        for attempt in dict.fromkeys(number for number, _ in pending):
            body = b"".join(text for number, text in pending if number == attempt)
            self.number += 1
            pieces.append((f"output-{attempt:04d}-{self.number:06d}.log", body))
        return pieces

    def put_back(self, pieces: list[tuple[str, bytes]]) -> None:
        """Take back pieces whose write failed. They keep their names: the write may have succeeded."""
        with self._lock:
            self._unwritten = [*pieces, *self._unwritten]
            while sum(len(body) for _, body in self._unwritten) > PIECE_BYTES_MAX:
                self._unwritten.pop(0)  # a flood: only the newest output is kept, to leave the memory to the trainer

    def _keep(self, text: bytes) -> None:
        self._pending.append((self.attempt, text))
        self._pending_bytes += len(text)
        while self._pending_bytes > PIECE_BYTES_MAX and len(self._pending) > 1:
            # a flood: the store gets the newest output only, and the local file holds all of it
            _, dropped = self._pending.pop(0)
            self._pending_bytes -= len(dropped)
