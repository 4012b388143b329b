"""The last lines of `start`: how it ended, the safe step, and the next useful commands."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.session.state import Phase, Session
from supervisor.core.session.status import nan_to_json
from supervisor.views import durability_text, wrapping
from supervisor.views.async_stream import print_error
from supervisor.views.formatting import last_good, nan_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.session.status import RunStatus
    from supervisor.views.durability_text import Durability

ALL_LOST = (
    "nothing of this run is safe: it ended, and no checkpoint was saved",
    "have the script call supervisor.attach(), or start it with --watch-dir DIR, the folder that it saves into",
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


def print_summary(
    session: Session, run: str, status: RunStatus, now: Instant, *, option: str, json_lines: bool
) -> None:
    """Print how the session ended; for a failure also its two lines, for programs too."""
    ending = session.ending
    if ending is not None and ending.phase is Phase.FAILED:
        print_error(ending.message, ending.hint)
    elif ending is not None and (lost := all_lost(session, run, status)):
        print_error(*lost)
    if not json_lines:
        with suppress(OSError):
            lines = summary_lines(session, run, status, now, option=option, paint=_painted)
            wrapping.show("\n".join(lines))


def _painted(state: str) -> str:
    return wrapping.painted_state(state, sys.stdout)


def all_lost(session: Session, run: str, status: RunStatus) -> tuple[str, str] | None:
    """Return the two lines for a run that trained and ended without a checkpoint in the store; None for all others."""
    trained = session.trainer.attempt > 0 and session.phase is not Phase.FENCED
    if not run or not trained or status.durable is not None or status.submitted is not None:
        return None
    if status.staged is None:
        return ALL_LOST
    what = f"nothing of this run is safe: {status.unit} {status.staged:,} is only on the disk of this machine"
    return what, "start it again on this machine, and that is sent to the store"


def summary_lines(
    session: Session, run: str, status: RunStatus, now: Instant, *, option: str = "", paint: Callable[[str], str] = str
) -> list[str]:
    """Return the lines.

    For a failure its message is left out, because the two lines of the error contain it.

    Args:
        session: the session.
        run: name of the run; "" if the first start was rejected and left no run, so that no command is shown.
        status: its last status.
        now: the time.
        option: the option that names the store, or "".
        paint: colours the state.
    """
    ending = session.ending
    if ending is None:
        return []
    words = [] if ending.phase is Phase.FAILED else [ending.message[:1].upper() + ending.message[1:]]
    durability = durability_text.of_status(status, now)
    bad = nan_to_json(status)
    words += [nan_text(bad)] if bad else []
    parts = [
        *words,
        durability_text.safe(durability) if run else "it never began, and no run is kept of it",
        f"exit code {ending.exit_code}",
    ]
    lines = [f"[supervisor] {paint(ending.phase)}: {' · '.join(parts)}"]
    if ending.phase is not Phase.FENCED:  # the staged checkpoint is useless for a superseded session
        lines += _unsafe(durability, run, option)
    next_lines = _next(ending.phase, status) if run else ()
    if next_lines and next_lines[0] == _RESUME:
        lines.append(f"{INDENT}the same start command resumes it, or:")
    lines += [
        f"{INDENT}{shell_commands.command_of_run(verb, run, *words, option=option)}" for verb, *words in next_lines
    ]
    return [*lines, f"{INDENT}-> {last_good(bad, run, option)}"] if bad else lines


def _next(phase: Phase, status: RunStatus) -> Sequence[tuple[str, ...]]:
    """Return the useful commands. Without a checkpoint there is nothing to list or export."""
    if phase is Phase.SUCCEEDED and status.durable is None and status.submitted is None:
        return (("logs",),)
    if phase is Phase.SUCCEEDED and status.nan_since is not None:
        return (("checkpoints", "list"),)  # the newest checkpoint holds the NaN, so it is not the one to export
    return _NEXT.get(phase, ())


def _unsafe(durability: Durability, run: str, option: str) -> list[str]:
    """Return what would be lost with this machine, and the remedy."""
    if durability.pending is None:
        return []
    to_do = durability_text.remedy(replace(durability, live=False), run, option)
    return [
        f"{INDENT}{durability_text.unconfirmed_place(durability)}{durability_text.store_reason(durability)}",
        f"{INDENT}-> {to_do}",
    ]
