"""The way from a session's beginning to its first new step, by part: what a person waits for on a fresh machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages

if TYPE_CHECKING:
    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus

_MARKS: dict[type, str] = {
    ev.Started: "began",
    ev.ClaimWritten: "claimed",
    do.ReadHistory: "settled",
    ev.CheckpointReady: "restored",
    ev.Launched: "launched",
}
PARTS = (
    ("claim_s", "began", "claimed"),
    ("settle_s", "claimed", "settled"),
    ("restore_s", "settled", "restored"),
    ("waited_for_packages_s", "restored", "launched"),
    ("start_up_s", "launched", "stepped"),
)


class Arrival:
    """Follows the records of a session until its first new step; later attempts change nothing.

    ``told`` is made of JSON's types. ``began_at_s`` and ``stepped_at_s`` are times of the boot clock; the parts follow
    one another and are seconds. ``packages_s`` ran beside the others; ``drift`` says how the machine before differed.
    """

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self._at_s: dict[str, float] = {}

    def see(self, now: Instant, value: Any, status: RunStatus) -> bool:
        """Take a record in; True for the one by which the first new step is known."""
        if "stepped" in self._at_s:
            return False
        if isinstance(value, ev.EnvironmentReady):
            self.told |= {"packages_s": round(value.seconds, 3), "installed": len(value.installed)}
            self.told |= {"drift": list(value.drift)}
        mark = "stepped" if _is_new_step(value, status) else _MARKS.get(type(value), "")
        if not mark or mark in self._at_s:
            return False
        self._at_s[mark] = now.mono_s
        self._tell(mark, status)
        return mark == "stepped"

    def _tell(self, mark: str, status: RunStatus) -> None:
        for name, begin, end in PARTS:
            if end == mark and begin in self._at_s:
                self.told[name] = round(self._at_s[end] - self._at_s[begin], 3)
        if mark == "began":
            self.told["began_at_s"] = round(self._at_s[mark], 3)
        if mark == "stepped":
            self.told |= {"stepped_at_s": round(self._at_s[mark], 3), "from_step": status.session_from_step}


def _is_new_step(value: Any, status: RunStatus) -> bool:
    if not isinstance(value, ev.TrainerSaid) or not isinstance(value.message, messages.Beat):
        return False
    first = status.session_from_step
    return first is not None and status.step is not None and status.step > first
