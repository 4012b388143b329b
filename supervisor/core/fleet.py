"""The fleet's controller: one machine after another serves a run until it ends. ``decide`` is all of it, and pure.

One call at a time is in flight (``doing``); its outcome comes back as an event. Everything is folded from the events, so that a
controller that was killed goes on from its journal: it lists the machines, and every one that it ever brought up is known.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from supervisor.core import errors
from supervisor.core import fleet_serving as serving
from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import LEFT, LOST, Fleet, Phase
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.fleet_serving import Outcome
    from supervisor.core.instant import Instant
    from supervisor.core.provisioning import Machine

PAUSE_S_MAX = 60.0
REFUSED_S, REFUSED_S_MAX = 60.0, 1800.0
QUOTA_S, QUOTA_S_MAX = 1800.0, 4 * 3600.0
TROUBLES_BEFORE_LISTING = 2
FAILURES_MAX = 3  # of one machine to get ready
RELEASES_MAX = 30


def decide(fleet: Fleet, event: fw.Event, now: Instant) -> Outcome:
    """Return the fleet after the event, and what to do: at most one call, and words."""
    if fleet.phase is Phase.ENDED and not isinstance(event, fw.Began):
        return fleet, ()
    if fleet.machine is None and isinstance(event, _OF_A_MACHINE):
        return fleet.with_(doing="", wake_s=now.mono_s), ()  # it was declared lost meanwhile
    return _TABLE[type(event)](fleet, event, now)


def next_wakeup(fleet: Fleet, now: Instant) -> float:
    """Return when ``Woke`` is due, in monotonic seconds, always later than now; infinity while a call is in flight."""
    if fleet.doing or fleet.wake_s is None or fleet.phase is Phase.ENDED:
        return inf
    return max(fleet.wake_s, now.mono_s + 0.001)


def _began(fleet: Fleet, event: fw.Began, now: Instant) -> Outcome:
    fleet = fleet.with_(policy=event.policy, on=event.on or fleet.on, stop_passed_on=False, look=False)
    fleet = fleet.with_(doing="", wake_s=None, absent=0, troubles=0, stop="", stop_s=None).trusted(now.mono_s)
    if fleet.phase is Phase.ENDED:
        fleet = fleet.with_(phase=Phase.LOOKING, refusals=0, fruitless=0, exit_code=None, release_then="", name="")
        fleet = fleet.with_(lives_before=len(fleet.lives), units_first=None)
    return serving.look(fleet)


def _woke(fleet: Fleet, _event: fw.Woke, now: Instant) -> Outcome:
    if fleet.doing:
        return fleet, ()
    fleet = fleet.with_(wake_s=None)
    if fleet.machine is None or fleet.absent or fleet.look:
        return serving.look(fleet)
    if fleet.stop and fleet.stop_s is not None and now.mono_s >= fleet.stop_s:
        return serving.release(fleet, "end")
    return serving.go_on(fleet, now)


def _told(fleet: Fleet, event: fw.Told, now: Instant) -> Outcome:
    if event.wish == "leave":
        left = fleet.machine and f"{fleet.machine.endpoint} goes on by itself"
        return serving.end(fleet, errors.INTERRUPTED, LEFT, left or "left", "the same command takes it up again")
    return serving.ask_to_stop(fleet, event.words or "stopped by you", now)


def _balanced(fleet: Fleet, event: fw.Balanced, _now: Instant) -> Outcome:
    first = event.units if fleet.units_first is None else fleet.units_first
    fleet = fleet.with_(units=event.units, units_first=first, units_per_hour=event.units_per_hour)
    if _only_counts(fleet):
        return serving.final(fleet)
    return fleet.calling("ListMachines"), (fw.ListMachines(),)


def _only_counts(fleet: Fleet) -> bool:
    """The last machine is given back, and only what it cost is asked for."""
    return fleet.machine is None and fleet.phase is Phase.RELEASING


def _listed(fleet: Fleet, event: fw.Listed, now: Instant) -> Outcome:
    fleet = fleet.with_(doing="")
    here = {each.endpoint: each for each in event.machines}
    fleet, said = _report(fleet, event.machines)
    if fleet.machine is not None:
        fleet, commands = serving.about_ours(fleet, here.get(fleet.machine.endpoint), now)
        return fleet, (*said, *commands)
    known = next((life for life in reversed(fleet.lives) if life.machine.endpoint in here), None)
    if known is not None:
        fleet, commands = serving.there_again(fleet, known, here[known.machine.endpoint], now)
        return fleet, (*said, *commands)
    # of any name that was ever asked for: one whose bring-up failed in an unknown way may come to light much later
    mine = next((each for each in event.machines if each.name.startswith(f"{fleet.prefix}-")), None)
    if mine is not None:
        fleet, commands = serving.brought_up(fleet, fw.BroughtUp(mine), now)
    else:
        fleet, commands = serving.next_machine(fleet.with_(before=tuple(here)), now)
    return fleet, (*said, *commands)


def _report(fleet: Fleet, machines: Any) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Tell of a machine that appeared while one was being brought up and that cannot be proved to be ours.

    And of one that was taken for lost and is listed again while another serves.
    """
    if fleet.machine is not None:
        listed = {each.endpoint for each in machines} - {fleet.machine.endpoint, *fleet.foreign}
        again = [life.machine.endpoint for life in fleet.lives if life.end == LOST and life.machine.endpoint in listed]
        words = "was taken for lost, and is listed again; it may cost units"
        said = tuple(fw.Say("warning", f"{each} {words}", f"give it back: launch --release {each}") for each in again)
        return fleet.with_(foreign=(*fleet.foreign, *again)), said
    if fleet.phase is not Phase.BRINGING_UP:
        return fleet, ()
    known = {*fleet.before, *fleet.foreign, *(life.machine.endpoint for life in fleet.lives)}
    new = [each.endpoint for each in machines if not each.name and each.endpoint not in known]
    said = tuple(
        fw.Say(
            "warning", f"{each} appeared while a machine was being brought up, and cannot be proved to be ours; it may cost units",
            "if you have not opened it yourself, end it at its provider: launch --list shows it, and it is not touched from here",
        )
        for each in new
    )  # fmt: skip
    return fleet.with_(foreign=(*fleet.foreign, *new)), said


def _failed(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome:
    life = fleet.life and fleet.life.reached(None, event.safe, now.wall_s)
    fleet = fleet.with_(doing="", life=life, safe=fleet.safe if event.safe is None else event.safe)
    if event.call == "BringUp":
        return _not_brought_up(fleet, event, now)
    if _only_counts(fleet):
        return serving.final(fleet)
    if event.kind in {"login", "denied"} and fleet.machine is None:
        return serving.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.words, event.hint)
    fleet = fleet.with_(troubles=fleet.troubles + 1, deaf=_deaf(fleet, event))
    if fleet.machine is not None and (given_up := _given_up(fleet, fleet.machine, event, now)):
        return given_up
    if fleet.troubles == 1 and (event.kind == "gone" or (event.call == "Poll" and event.kind == "unreachable")):
        return serving.look(fleet)  # at once, because it may be dead, and every minute of that is lost
    said = (fw.Say("warning", event.words, event.hint),) if fleet.troubles in {2, 10} else ()
    look = fleet.machine is None or fleet.troubles >= TROUBLES_BEFORE_LISTING
    pause_s = min(fleet.policy.poll_s * 2**fleet.troubles, PAUSE_S_MAX)
    return fleet.with_(wake_s=now.mono_s + pause_s, look=look), said


def _deaf(fleet: Fleet, event: fw.Failed) -> int:
    """Count polls that failed while listings came through: without a network here, nothing speaks against the machine."""
    if event.call in {"ListMachines", "CheckBalance"}:
        return 0
    return fleet.deaf + (event.call == "Poll" and event.kind != "home")


def _given_up(fleet: Fleet, machine: Machine, event: fw.Failed, now: Instant) -> Outcome | None:
    """Return what follows where trying again on this machine is no use."""
    if event.call == "Adopt" and event.kind == "gone":
        return serving.lost(fleet, now)
    if event.call == "PassOnStop" and event.kind == "nothing":
        return serving.release(fleet, "end")
    if event.call == "Release" and fleet.troubles >= RELEASES_MAX:
        words = f"{machine.endpoint} could not be given back, and may go on using units: {event.words}"
        hint = f"give it back by hand: `launch --release {machine.endpoint} --on {fleet.on or 'PLACE'}`"
        return serving.end(fleet, fleet.exit_code or errors.FAILED, "FAILED_CONTROLLER", words, hint)
    said = fw.Say("error", event.words, event.hint)
    if event.call == "Prepare" and event.kind == "hopeless":  # it is this computer's: no other machine can help
        fleet, commands = serving.release(fleet.with_(exit_code=errors.FAILED_PRECHECKS), "end")
        return fleet, (said, *commands)
    if event.call in {"Prepare", "StartAgent"} and event.kind == "failed" and fleet.troubles >= FAILURES_MAX:
        fleet, commands = serving.release(fleet, "next")
        return fleet, (said, *commands)
    return None


def _not_brought_up(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome:
    if event.kind in {"login", "denied"}:
        return serving.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.words, event.hint)
    if fleet.stop and event.kind != "unreachable":
        return serving.end(fleet, fleet.stop_code, "CANCELLED", fleet.stop)
    refusals = fleet.refusals + 1
    if refusals > fleet.policy.refusals_max:
        words = f"no machine was to be had in {refusals} tries: {event.words}"
        return serving.end(
            fleet, errors.NO_PROGRESS, "FAILED_NO_RESOURCE", words, event.hint or "try other hardware, or later"
        )
    first_s, most_s = (QUOTA_S, QUOTA_S_MAX) if event.kind == "quota" else (REFUSED_S, REFUSED_S_MAX)
    if event.kind == "unreachable":
        first_s, most_s = fleet.policy.poll_s, PAUSE_S_MAX
    pause_s = min(first_s * 2 ** (refusals - 1), most_s)
    # with an unknown outcome the same name is asked for again: there may be a machine of it
    phase = Phase.BRINGING_UP if event.kind == "unreachable" else Phase.WAITING
    # the name is kept: an earlier try of unknown outcome may still have made a machine of it
    fleet = fleet.with_(refusals=refusals, phase=phase, wake_s=now.mono_s + pause_s)
    words = f"no machine: {event.words}; trying again in {duration(pause_s)}"
    return fleet, (fw.Say("warning", words, event.hint),)


_OF_A_MACHINE = (fw.Adopted, fw.Prepared, fw.AgentStarted, fw.Polled, fw.Restarted, fw.StopPassedOn)
_TABLE: dict[type, Callable[[Fleet, Any, Instant], Outcome]] = {
    fw.Began: _began,
    fw.Woke: _woke,
    fw.Told: _told,
    fw.Balanced: _balanced,
    fw.Listed: _listed,
    fw.BroughtUp: serving.brought_up,
    fw.Adopted: serving.adopted,
    fw.Prepared: serving.prepared,
    fw.AgentStarted: serving.agent_started,
    fw.Polled: serving.polled,
    fw.Restarted: serving.restarted,
    fw.StopPassedOn: serving.stop_passed_on,
    fw.Released: serving.released,
    fw.Failed: _failed,
}
