"""Something that changes, shown until it ends: redrawn in place on a terminal, printed anew elsewhere."""

from __future__ import annotations

from typing import Any, Self, TextIO

from supervisor.core.shown import drawn_on, shown_with_colours
from supervisor.views.wrapping import columns_of, wrapped


class Printed:
    """Prints a text when it differs from the one before."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, text: str) -> None:
        """Print it, if it says anything new."""
        if text != self._last:
            self._last = text
            print(text, file=self._out, flush=True)


class Redrawn:
    """Redraws the text in place."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._out = out
        self._live: Any = Live(console=Console(file=drawn_on(out), highlight=False), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, text: str) -> None:
        """Put it in the place of the text before."""
        from rich.text import Text

        self._live.update(
            Text.from_ansi(wrapped(shown_with_colours(text), columns_of(self._out)), overflow="fold"), refresh=True
        )
