"""The last lines of `start`: how it ended, what is safe, and the next useful commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.session import Phase, Session
from supervisor.views.words import safe

if TYPE_CHECKING:
    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus

_RESUME = "resume {run}    # or the same start command"
_NEXT = {
    Phase.SUCCEEDED: ("checkpoints {run} list", "checkpoints {run} export latest DIR"),
    Phase.HANDED_OVER: (_RESUME,),
    Phase.CANCELLED: (_RESUME, "status {run}"),
    Phase.FENCED: ("status {run}",),
    Phase.FAILED: ("logs {run}", "status {run}"),
}


def farewell(session: Session, run: str, status: RunStatus, now: Instant, *, option: str = "") -> list[str]:
    """Return the lines. ``option`` is what the commands need to find the run's store, if that is not the default.

    Of a failure the words are left out, because its two lines say them.
    """
    ending = session.ending
    if ending is None:
        return []
    words = [] if ending.phase is Phase.FAILED else [ending.words[:1].upper() + ending.words[1:]]
    parts = [*words, safe(status, now), f"exit code {ending.exit_code}"]
    lines = [f"[supervisor] {ending.phase}: {' · '.join(parts)}"]
    for each in _NEXT.get(ending.phase, ()):
        command, mark, why = each.format(run=run).partition("    #")
        lines.append(f"             python -m supervisor {command}{option}{mark}{why}")
    return lines
