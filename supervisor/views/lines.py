"""A text stream that may be slow, paused or gone: neither the run nor its supervisor ever waits for who looks at it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.shown import drawn_on, shown, shown_lines
from supervisor.views import wrapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

WAITING_MAX = 5000
CLOSE_WAIT_S = 2.0


class Lines:
    """Writes on a thread of its own, whole texts in order.

    What a paused terminal does not take is left out and counted; the local disk and the store have all of it.
    """

    def __init__(self, out: TextIO) -> None:
        out = drawn_on(out)
        if isinstance(out, TextIOWrapper):
            out.reconfigure(errors="replace")  # a terminal that knows no "·" is no reason to stop
        self._out = out
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._left_out = 0
        self._thread: Thread | None = Thread(target=self._write_all, name="lines", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # this machine allows no more threads: then texts are written by who has them
        self.encoding = getattr(out, "encoding", "utf-8")

    def write(self, text: str) -> int:
        """Have a text written; returns at once."""
        if self._waiting.qsize() > WAITING_MAX:
            self._left_out += text.count("\n")
        else:
            if self._left_out:
                missed, self._left_out = self._left_out, 0
                self._waiting.put(
                    f"[supervisor] {missed:,} lines are not shown here; {program.expanded('`logs`')} has them\n"
                )
            self._waiting.put(text)
        if self._thread is None:
            self._waiting.put(None)
            self._write_all()
        return len(text)

    def flush(self) -> None:
        """Every text is flushed by itself."""

    def isatty(self) -> bool:
        """Say whether somebody may be looking at it."""
        return self._out.isatty()

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self._out.fileno()

    def close(self) -> None:
        """Wait a moment until everything is written."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_WAIT_S)

    def _write_all(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._out.write(text)
                self._out.flush()
            except OSError:
                lead_nowhere(self._out)


def lead_nowhere(out: TextIO) -> None:
    """Point a stream at nothing, because what is left in its buffer would fail once more at the end of the process."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def teller(*, json_lines: bool) -> Callable[[str, str], None]:
    """Return who says what comes before and after the session: on stdout, or on stderr beside a program's lines."""

    def say(words: str, hint: str) -> None:
        below = f"\n{' ' * len('[supervisor] ')}{program.expanded(hint)}" if hint else ""
        with suppress(OSError):
            wrapping.show(shown_lines(f"[supervisor] {words}{below}"), sys.stderr if json_lines else sys.stdout)

    return say


def say_error(what: str, hint: str) -> None:
    """Print the two lines that every error ends in: what happened, and what to do."""
    with suppress(OSError):
        wrapping.show_error(shown(what), shown(hint))
