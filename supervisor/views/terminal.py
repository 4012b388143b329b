"""What `start` shows while it runs: one self-updating line on a terminal, plain lines elsewhere, or JSON lines.

Errors are not shown here: the session ends by them, and their two lines come last, on stderr.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import events as ev
from supervisor.core import program
from supervisor.core.codec import to_line
from supervisor.core.shown import shown, shown_lines, shown_output
from supervisor.views import safety
from supervisor.views.bottom import Bottom
from supervisor.views.lines import Lines
from supervisor.views.words import line
from supervisor.views.wrapping import CYAN, DIM, GREEN, YELLOW, columns_of, has_colours

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from supervisor.core import commands as do
    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus

PLAIN_EVERY_S = 10.0
SAFE_EVERY_S = 2.0
LIVE_EVERY_S = 1.0
NAME = "[supervisor] "
INDENT = " " * len(NAME)
_MARKS = {"warning": "warning: "}
_BEFORE_STEPS = frozenset({None, "start", "restore"})


class Screen(Protocol):
    """Shows a session to somebody. No call ever waits for them; all but ``printed`` come from the loop's thread."""

    def say(self, said: do.Say) -> None: ...
    def printed(self, text: bytes) -> None: ...
    def record(self, now: Instant, value: Any, status: RunStatus) -> None: ...
    def close(self) -> None: ...


class _Progress:
    """Whether there is any to show: steps, or, of a script whose steps nobody counts, that something is safe."""

    def __init__(self) -> None:
        self._any_safe = False

    def seen(self, value: Any, status: RunStatus) -> bool:
        """Look at a record; call it for each."""
        self._any_safe = self._any_safe or isinstance(value, ev.Durable)
        return self._any_safe or status.section not in _BEFORE_STEPS


class PlainScreen:
    """Lines for logs, notebooks and pipes: progress at most every 10 s, and when something became safe."""

    def __init__(self, out: Lines) -> None:
        self._out = out
        self._shown_s = 0.0
        self._progress = _Progress()

    def say(self, said: do.Say) -> None:
        """Print the words, and under them what to do."""
        if said.level != "error":
            hint = f"\n{INDENT}{program.expanded(said.hint)}" if said.hint else ""
            self._out.write(shown_lines(f"{NAME}{_MARKS.get(said.level, '')}{program.expanded(said.words)}{hint}\n"))

    def printed(self, text: bytes) -> None:
        """Pass on a line of the trainer."""
        self._out.write(shown_output(text.decode("utf-8", "replace")) + "\n")

    def record(self, now: Instant, value: Any, status: RunStatus) -> None:
        """Print the progress line when it is time, and soon after a checkpoint became safe."""
        if not self._progress.seen(value, status):
            return
        silent_s = now.mono_s - self._shown_s
        if silent_s >= PLAIN_EVERY_S or (isinstance(value, ev.Durable) and silent_s >= SAFE_EVERY_S):
            self._shown_s = now.mono_s
            self._out.write(f"{NAME}{shown(line(status, now))}\n")

    def close(self) -> None:
        """Wait a moment until everything is shown."""
        self._out.close()


class JsonScreen:
    """Every event and command as a JSON line on stdout; the trainer's lines as {"is": "Output"}."""

    def __init__(self, out: Lines) -> None:
        self._out = out

    def say(self, said: do.Say) -> None:
        """Said words are among the commands already."""

    def printed(self, text: bytes) -> None:
        """Pass on a line of the trainer."""
        import json

        body = {"is": "Output", "text": text.decode("utf-8", "replace")}
        self._out.write(json.dumps(body) + "\n")

    def record(self, now: Instant, value: Any, _status: RunStatus) -> None:
        """Print the record."""
        if not isinstance(value, ev.Woke):
            self._out.write(shown(to_line({"mono_s": now.mono_s, "wall_s": now.wall_s}, value)) + "\n")

    def close(self) -> None:
        """Wait a moment until everything is shown."""
        self._out.close()


class LiveScreen:
    """One line at the bottom that keeps itself up to date; everything else scrolls above it."""

    def __init__(self, out: Lines, columns: Callable[[], int], *, colours: bool = True) -> None:
        self._bottom = Bottom(out, columns, colours=colours)
        self._shown_s = 0.0
        self._progress = _Progress()

    def say(self, said: do.Say) -> None:
        """Print the words above the line, and under them what to do."""
        if said.level != "error":
            painted = self._bottom.painted
            colour = YELLOW if said.level == "warning" else CYAN
            hint = f"\n{painted(INDENT + shown_lines(program.expanded(said.hint)), DIM)}" if said.hint else ""
            words = f"{NAME}{_MARKS.get(said.level, '')}{shown_lines(program.expanded(said.words))}"
            self._bottom.above(f"{painted(words, colour)}{hint}")

    def printed(self, text: bytes) -> None:
        """Print a line of the trainer above the line."""
        self._bottom.above(shown_output(text.decode("utf-8", "replace")))

    def record(self, now: Instant, value: Any, status: RunStatus) -> None:
        """Redraw at most once a second, while the trainer makes steps; leave the last state when it ends."""
        ended = isinstance(value, ev.TrainerExited) and self._bottom.shows
        if ended or (self._progress.seen(value, status) and now.mono_s - self._shown_s >= LIVE_EVERY_S):
            self._shown_s = now.mono_s
            colour = YELLOW if safety.waiting(safety.of_status(status, now)) else GREEN
            self._bottom.draw(shown(line(status, now, self._bottom.room())), colour, last=ended)

    def close(self) -> None:
        """Leave the last state of the line on the screen, and wait a moment until everything is shown."""
        self._bottom.close()


def choose(*, json_lines: bool, out: TextIO | None = None) -> Screen:
    """Return the screen that fits where stdout leads."""
    out = out or sys.stdout
    lines = Lines(out)
    if json_lines:
        return JsonScreen(lines)
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainScreen(lines)
    return LiveScreen(lines, lambda: columns_of(out), colours=has_colours(out))
