"""What the trainer prints: passed on at once, kept on the local disk, and put into the store in closed pieces."""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from supervisor.core import fields

if TYPE_CHECKING:
    from pathlib import Path

PIECE = re.compile(rf"output-([0-9]{{4,9}})-([0-9]{{6,9}}){fields.TWIN}\.log")
OUTPUT = re.compile(r"output-([0-9]{4,9})\.log")  # of one attempt, on its machine
PIECE_BYTES_MAX = 4 * 1024 * 1024
TAIL_LINES = 20
LINE_BYTES_MAX = 64 * 1024


class Output:
    """Bytes come from the reader's thread, pieces are taken on the loop's thread."""

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
        """A new attempt prints from now on."""
        with self._lock:
            self.attempt, self._file, self._rest = attempt, file, b""
            self.tail.clear()

    def add(self, text: bytes) -> list[bytes]:
        """Take what was printed; return the whole lines in it, for showing.

        A progress bar's carriage returns count as the end of a line of which only the last state is kept.
        """
        with self._lock:
            if self._file is not None:
                # a full local disk must not stop the reader: the trainer would hang on its full pipe
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
        """Return the pieces (name, body) that are not in the store yet: those that were put back, and the new ones."""
        with self._lock:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            pieces, self._unwritten = self._unwritten, []
        for attempt in dict.fromkeys(number for number, _ in pending):
            body = b"".join(text for number, text in pending if number == attempt)
            self.number += 1
            pieces.append((f"output-{attempt:04d}-{self.number:06d}.log", body))
        return pieces

    def put_back(self, pieces: list[tuple[str, bytes]]) -> None:
        """Take back pieces whose writing failed. They keep their names, because one may have been written all the same."""
        with self._lock:
            self._unwritten = [*pieces, *self._unwritten]
            while sum(len(body) for _, body in self._unwritten) > PIECE_BYTES_MAX:
                self._unwritten.pop(0)  # a flood again: the newest is kept, because memory is the trainer's

    def _keep(self, text: bytes) -> None:
        self._pending.append((self.attempt, text))
        self._pending_bytes += len(text)
        while self._pending_bytes > PIECE_BYTES_MAX and len(self._pending) > 1:
            # a flood: the local file has it all, the store gets the newest, because memory is the trainer's
            _, dropped = self._pending.pop(0)
            self._pending_bytes -= len(dropped)
