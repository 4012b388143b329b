"""A machine that trains and saves nothing: said after a while, given up after longer, because each step of it is lost at its end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import Fleet, Unsaved
from supervisor.core.fleet_waiting import spent
from supervisor.core.spoken import duration
from supervisor.core.values import replace

if TYPE_CHECKING:
    from supervisor.core.instant import Instant

OVERDUE_S_MAX = 3600.0  # after a save was due
UNKNOWN_S_MAX = 6 * 3600.0  # where the time of the next save is not known
SAVE_FAILED = re.compile(r"\bsaves? (at step [\d,]+ )?failed\b")  # in the words of the supervisor there
HINT = "see why: `logs`; then make room on the machine, or save less (a smaller state, fewer checkpoints), and launch again"


def seen(fleet: Fleet, event: fw.Polled, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Note whether something new is saved there; say once that nothing is, and what follows from that."""
    known = fleet.unsaved
    if event.phase != fw.RUNNING or fleet.stop or (known is None and event.step is None):
        return fleet.with_(unsaved=None), ()
    if known is None or event.saved != known.saved:
        return fleet.with_(unsaved=_from_now(event, now)), ()
    if known.end_s > known.due_s + OVERDUE_S_MAX and any(map(SAVE_FAILED.search, event.warnings)):
        known = Unsaved(known.saved, now.mono_s, now.mono_s + OVERDUE_S_MAX)
        return fleet.with_(unsaved=known), ()
    since_s, left_s = now.mono_s - known.due_s, known.end_s - now.mono_s
    if known.told or left_s > since_s or fleet.machine is None:
        return fleet, ()
    words = (
        f"{fleet.machine.endpoint} has saved nothing new for {duration(since_s)}; {held(fleet)}; "
        f"in {duration(max(0.0, left_s))} the launch ends with exit code 93 if that stays so"
    )
    return fleet.with_(unsaved=replace(known, told=True)), (fw.Say("warning", words, HINT),)


def given_up(fleet: Fleet, now: Instant) -> str:
    """Return why the machine is not gone on with, in words; "" where it saves, or has time left."""
    known = fleet.unsaved
    if known is None or not known.told or now.mono_s < known.end_s:
        return ""
    units = f" ({words})" if (words := spent(fleet, now)) else ""
    since_s = now.mono_s - known.due_s
    return f"the run has trained for {duration(since_s)} without a new checkpoint{units}: giving it up; {held(fleet)}"


def held(fleet: Fleet) -> str:
    """Return what this computer holds, in words."""
    return "nothing is safe" if fleet.safe is None else f"step {fleet.safe:,} is safe"


def _from_now(event: fw.Polled, now: Instant) -> Unsaved:
    if event.next_save_s is None:
        return Unsaved(event.saved, now.mono_s, now.mono_s + UNKNOWN_S_MAX)
    due_s = now.mono_s + max(0.0, event.next_save_s)
    return Unsaved(event.saved, due_s, due_s + OVERDUE_S_MAX)
