"""The last lines of `start`: how it ended, what is safe, and the next useful commands."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.session import Phase, Session
from supervisor.core.status import nan_to_json
from supervisor.views import safety, wrapping
from supervisor.views.lines import say_error
from supervisor.views.words import last_good, nan_since

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus
    from supervisor.views.safety import Safety

ALL_LOST = (
    "nothing of this run is safe: it ended, and no checkpoint was saved",
    "have the script call supervisor.attach(), or start it with --watch DIR, the folder that it saves into",
)
INDENT = " " * len("[supervisor] ")
_RESUME = ("resume",)
_NEXT: dict[Phase, Sequence[tuple[str, ...]]] = {
    Phase.SUCCEEDED: (("checkpoints", "list"), ("checkpoints", "export", "latest", "DIR")),
    Phase.HANDED_OVER: (_RESUME,),
    Phase.CANCELLED: (_RESUME, ("status",)),
    Phase.FENCED: (("status",),),
    Phase.FAILED: (("logs",), ("status",)),
}


def goodbye(session: Session, run: str, status: RunStatus, now: Instant, *, option: str, json_lines: bool) -> None:
    """Print how it ended; of a failure its two lines, for programs too."""
    ending = session.ending
    if ending is not None and ending.phase is Phase.FAILED:
        say_error(ending.words, ending.hint)
    elif ending is not None and (lost := all_lost(session, run, status)):
        say_error(*lost)
    if not json_lines:
        with suppress(OSError):
            lines = farewell(session, run, status, now, option=option, paint=_painted)
            wrapping.show("\n".join(lines))


def _painted(state: str) -> str:
    return wrapping.painted_state(state, sys.stdout)


def all_lost(session: Session, run: str, status: RunStatus) -> tuple[str, str] | None:
    """Return the two lines for a run that was trained and ended with no checkpoint in the store; None for all others."""
    trained = session.trainer.attempt > 0 and session.phase is not Phase.FENCED
    if not run or not trained or status.durable is not None or status.submitted is not None:
        return None
    if status.staged is None:
        return ALL_LOST
    what = f"nothing of this run is safe: {status.unit} {status.staged:,} is only on the disk of this machine"
    return what, "start it again on this machine, and that is sent to the store"


def farewell(
    session: Session, run: str, status: RunStatus, now: Instant, *, option: str = "", paint: Callable[[str], str] = str
) -> list[str]:
    """Return the lines. ``option`` is what the commands need to find the run's store, if that is not the default.

    ``run`` is "" where none was left behind, because its first start was refused: no command is shown then. Of a failure the words are left out, because its two lines say them.
    """
    ending = session.ending
    if ending is None:
        return []
    words = [] if ending.phase is Phase.FAILED else [ending.words[:1].upper() + ending.words[1:]]
    seen = safety.of_status(status, now)
    bad = nan_to_json(status)
    words += [nan_since(bad)] if bad else []
    parts = [
        *words,
        safety.safe(seen) if run else "it never began, and no run is kept of it",
        f"exit code {ending.exit_code}",
    ]
    lines = [f"[supervisor] {paint(ending.phase)}: {' · '.join(parts)}"]
    if ending.phase is not Phase.FENCED:  # then what is staged here is of no use to anybody
        lines += _unsafe(seen, run, option)
    nexts = _next(ending.phase, status) if run else ()
    if nexts and nexts[0] == _RESUME:
        lines.append(f"{INDENT}the same start command goes on with it, or:")
    lines += [f"{INDENT}{program.command_of_run(verb, run, *words, option=option)}" for verb, *words in nexts]
    return [*lines, f"{INDENT}-> {last_good(bad, run, option)}"] if bad else lines


def _next(phase: Phase, status: RunStatus) -> Sequence[tuple[str, ...]]:
    """Return the commands that are useful now: without a checkpoint there is nothing to list or export."""
    if phase is Phase.SUCCEEDED and status.durable is None and status.submitted is None:
        return (("logs",),)
    if phase is Phase.SUCCEEDED and status.nan_since is not None:
        return (("checkpoints", "list"),)  # the newest holds the NaN, so that it is not the one to export
    return _NEXT.get(phase, ())


def _unsafe(seen: Safety, run: str, option: str) -> list[str]:
    """Say what would be lost with this machine, and what to do about it."""
    if seen.pending is None:
        return []
    to_do = safety.what_to_do(replace(seen, live=False), run, option)
    return [f"{INDENT}{safety.lying(seen)}{safety.because(seen)}", f"{INDENT}-> {to_do}"]
