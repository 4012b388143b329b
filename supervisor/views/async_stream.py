"""A text stream to a slow, paused or closed output. Neither the run nor its supervisor ever waits for a reader."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.escape import drawn_on, shown, shown_lines
from supervisor.views import wrapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

WAITING_MAX = 5000
CLOSE_WAIT_S = 2.0


class Lines:
    """Writes whole texts in order on its own thread.

    Texts that a paused terminal does not take are dropped and counted. The local disk and the store have all of them.
    """

    def __init__(self, out: TextIO) -> None:
        out = drawn_on(out)
        if isinstance(out, TextIOWrapper):
            out.reconfigure(errors="replace")  # a terminal without "·" is no reason to stop
        self._out = out
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._left_out = 0
        self._thread: Thread | None = Thread(target=self._write_all, name="lines", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # the machine allows no more threads: the caller writes
        self.encoding = getattr(out, "encoding", "utf-8")

    def write(self, text: str) -> int:
        """Queue a text; return at once."""
        if self._waiting.qsize() > WAITING_MAX:
            self._left_out += text.count("\n")
        else:
            if self._left_out:
                missed, self._left_out = self._left_out, 0
                self._waiting.put(
                    f"[supervisor] {missed:,} lines are not shown here; {shell_commands.expanded('`logs`')} has them\n"
                )
            self._waiting.put(text)
        if self._thread is None:
            self._waiting.put(None)
            self._write_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: every text is flushed by itself."""

    def isatty(self) -> bool:
        """Return True if a person may be reading."""
        return self._out.isatty()

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self._out.fileno()

    def close(self) -> None:
        """Wait a short time until everything is written."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_WAIT_S)

    def _write_all(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._out.write(text)
                self._out.flush()
            except OSError:
                redirect_to_null(self._out)


def redirect_to_null(out: TextIO) -> None:
    """Point a stream at the null device, because the rest of its buffer would fail again at the end of the process."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, out.fileno())
        os.close(null)


def notice_printer(*, json_lines: bool) -> Callable[[str, str], None]:
    """Return the printer of notices before and after the session: to stdout, or to stderr beside JSON lines."""

    def say(words: str, hint: str) -> None:
        below = f"\n{' ' * len('[supervisor] ')}{shell_commands.expanded(hint)}" if hint else ""
        with suppress(OSError):
            wrapping.show(shown_lines(f"[supervisor] {words}{below}"), sys.stderr if json_lines else sys.stdout)

    return say


def print_error(what: str, hint: str) -> None:
    """Print the two lines of an error: what happened and what to do."""
    with suppress(OSError):
        wrapping.show_error(shown(what), shown(hint))
