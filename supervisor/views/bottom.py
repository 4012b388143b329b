"""One line at the bottom of a terminal that is redrawn in place; all other lines scroll above it.

Drawn by hand, because a drawing library would cost more than all the rest of the supervisor.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from supervisor.views.wrapping import PLAIN, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.views.lines import Lines

CLEAR = "\r\x1b[K"


class Bottom:
    """The line, and how other lines are written above it. Texts are safe to show already."""

    def __init__(self, out: Lines, columns: Callable[[], int], *, colours: bool) -> None:
        self._out, self._columns, self._colours = out, columns, colours
        self._line = ""
        self._lock = Lock()

    @property
    def shows(self) -> bool:
        """Return True while there is a line."""
        return bool(self._line)

    def room(self) -> int:
        """Return how many columns the line may take."""
        return self._columns() - 1

    def draw(self, line: str, colour: str, *, last: bool = False) -> None:
        """Put this line in the place of the one before; the ``last`` one stays, and scrolls up with the others."""
        drawn = self._coloured(line, colour)
        with self._lock:
            self._line = "" if last else drawn
            self._out.write(f"{CLEAR}{drawn}" + ("\n" if last else ""))

    def above(self, text: str) -> None:
        """Print lines that stay above the line."""
        with self._lock:
            self._out.write(f"{CLEAR}{text}\n{self._line}")

    def painted(self, text: str, colour: str) -> str:
        """Return lines that stay as they are shown here: broken between words, in a colour where there are any."""
        return self._coloured(wrapped(text, self._columns()), colour)

    def close(self) -> None:
        """Leave the last state of the line on the screen, and wait a moment until everything is shown."""
        if self._line:
            self._out.write("\n")
        self._out.close()

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colours and colour else text
