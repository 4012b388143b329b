"""Output of `start` while it runs: one updating line on a terminal, plain lines elsewhere, or JSON lines.

Errors are not shown here. They end the session, and their two lines come last, on stderr.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import shell_commands
from supervisor.core.escape import shown, shown_lines, shown_output
from supervisor.core.session import events as ev
from supervisor.core.wire.journal_codec import to_line
from supervisor.views import durability_text
from supervisor.views.async_stream import Lines
from supervisor.views.bottom import Bottom
from supervisor.views.formatting import line
from supervisor.views.wrapping import CYAN, DIM, GREEN, YELLOW, columns_of, has_colours

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from supervisor.core.clock import Instant
    from supervisor.core.session import commands as do
    from supervisor.core.session.status import RunStatus

PLAIN_EVERY_S = 10.0
SAFE_EVERY_S = 2.0
LIVE_EVERY_S = 1.0
NAME = "[supervisor] "
INDENT = " " * len(NAME)
_MARKS = {"warning": "warning: "}
_BEFORE_STEPS = frozenset({None, "start", "restore"})


class Screen(Protocol):
    """Shows a session. No call waits for a reader; all but ``trainer_output`` come from the loop's thread."""

    def notify(self, notification: do.Notify) -> None: ...
    def trainer_output(self, text: bytes) -> None: ...
    def record(self, now: Instant, value: Any, status: RunStatus) -> None: ...
    def close(self) -> None: ...


class _Progress:
    """Tells when there is progress to show: steps, or a safe checkpoint of a script without counted steps."""

    def __init__(self) -> None:
        self._any_safe = False

    def update(self, value: Any, status: RunStatus) -> bool:
        """Take in a record; return True if there is progress."""
        self._any_safe = self._any_safe or isinstance(value, ev.CheckpointDurable)
        return self._any_safe or status.section not in _BEFORE_STEPS


class PlainScreen:
    """Lines for logs, notebooks and pipes: progress at most every 10 s, and after each safe checkpoint."""

    def __init__(self, out: Lines) -> None:
        self._out = out
        self._shown_s = 0.0
        self._progress = _Progress()

    def notify(self, notification: do.Notify) -> None:
        """Print the message, and its hint below."""
        if notification.level != "error":
            hint = f"\n{INDENT}{shell_commands.expanded(notification.hint)}" if notification.hint else ""
            self._out.write(
                shown_lines(
                    f"{NAME}{_MARKS.get(notification.level, '')}{shell_commands.expanded(notification.message)}{hint}\n"
                )
            )

    def trainer_output(self, text: bytes) -> None:
        """Print a line of the trainer."""
        self._out.write(shown_output(text.decode("utf-8", "replace")) + "\n")

    def record(self, now: Instant, value: Any, status: RunStatus) -> None:
        """Print the progress line when it is due, and soon after a checkpoint became safe."""
        if not self._progress.update(value, status):
            return
        silent_s = now.mono_s - self._shown_s
        if silent_s >= PLAIN_EVERY_S or (isinstance(value, ev.CheckpointDurable) and silent_s >= SAFE_EVERY_S):
            self._shown_s = now.mono_s
            self._out.write(f"{NAME}{shown(line(status, now))}\n")

    def close(self) -> None:
        """Wait a short time until everything is shown."""
        self._out.close()


class JsonScreen:
    """Every event and command as a JSON line on stdout; the trainer's lines as {"is": "Output"}."""

    def __init__(self, out: Lines) -> None:
        self._out = out

    def notify(self, notification: do.Notify) -> None:
        """Print nothing: messages are among the commands already."""

    def trainer_output(self, text: bytes) -> None:
        """Print a line of the trainer."""
        import json

        body = {"is": "Output", "text": text.decode("utf-8", "replace")}
        self._out.write(json.dumps(body) + "\n")

    def record(self, now: Instant, value: Any, _status: RunStatus) -> None:
        """Print the record."""
        if not isinstance(value, ev.TimerFired):
            self._out.write(shown(to_line({"mono_s": now.mono_s, "wall_s": now.wall_s}, value)) + "\n")

    def close(self) -> None:
        """Wait a short time until everything is shown."""
        self._out.close()


class LiveScreen:
    """One updating line at the bottom; everything else scrolls above it."""

    def __init__(self, out: Lines, columns: Callable[[], int], *, colours: bool = True) -> None:
        self._bottom = Bottom(out, columns, colours=colours)
        self._shown_s = 0.0
        self._progress = _Progress()

    def notify(self, notification: do.Notify) -> None:
        """Print the message above the line, and its hint below the message."""
        if notification.level != "error":
            painted = self._bottom.painted
            colour = YELLOW if notification.level == "warning" else CYAN
            hint = (
                f"\n{painted(INDENT + shown_lines(shell_commands.expanded(notification.hint)), DIM)}"
                if notification.hint
                else ""
            )
            words = f"{NAME}{_MARKS.get(notification.level, '')}{shown_lines(shell_commands.expanded(notification.message))}"
            self._bottom.print_above(f"{painted(words, colour)}{hint}")

    def trainer_output(self, text: bytes) -> None:
        """Print a line of the trainer above the line."""
        self._bottom.print_above(shown_output(text.decode("utf-8", "replace")))

    def record(self, now: Instant, value: Any, status: RunStatus) -> None:
        """Redraw at most once a second while the trainer makes steps; leave the last state when it ends."""
        ended = isinstance(value, ev.TrainerExited) and self._bottom.shows
        if ended or (self._progress.update(value, status) and now.mono_s - self._shown_s >= LIVE_EVERY_S):
            self._shown_s = now.mono_s
            colour = YELLOW if durability_text.unconfirmed_text(durability_text.of_status(status, now)) else GREEN
            self._bottom.draw(shown(line(status, now, self._bottom.room())), colour, last=ended)

    def close(self) -> None:
        """Leave the last state of the line on the screen, and wait a short time until everything is shown."""
        self._bottom.close()


def choose(*, json_lines: bool, out: TextIO | None = None) -> Screen:
    """Return the screen that fits stdout."""
    out = out or sys.stdout
    lines = Lines(out)
    if json_lines:
        return JsonScreen(lines)
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainScreen(lines)
    return LiveScreen(lines, lambda: columns_of(out), colours=has_colours(out))
