"""The fleet's controller: one machine after another serves a run until it ends. ``decide`` is all of it, and pure.

One call at a time is in flight (``doing``); its outcome comes back as an event. Everything is folded from the events, so that a
controller that was killed goes on from its journal: it lists the machines, and every one that it ever brought up is known.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from supervisor.core import errors
from supervisor.core import fleet_ending as ending
from supervisor.core import fleet_serving as serving
from supervisor.core import fleet_waiting as waiting
from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import Fleet, Phase
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.fleet_serving import Outcome
    from supervisor.core.instant import Instant
    from supervisor.core.provisioning import Machine

PAUSE_S_MAX = 60.0
REFUSED_S, REFUSED_S_MAX = 60.0, 1800.0
QUOTA_S, QUOTA_S_MAX = 1800.0, 4 * 3600.0
TROUBLES_BEFORE_LISTING = 2
FAILURES_MAX = 3  # of one machine to get ready
RELEASES_MAX = 30
BALANCE_S = 900.0


def decide(fleet: Fleet, event: fw.Event, now: Instant) -> Outcome:
    """Return the fleet after the event, and what to do: at most one call, and words."""
    if fleet.phase is Phase.ENDED and not isinstance(event, fw.Began):
        return fleet, ()
    if isinstance(event, fw.Waited):
        return waiting.waited(fleet, now)
    if fleet.machine is None and isinstance(event, _OF_A_MACHINE):
        return fleet.with_(doing="", wake_s=now.mono_s), ()  # it was declared lost meanwhile
    after, commands = _TABLE[type(event)](fleet, event, now)
    return waiting.with_news(fleet, after, now), commands


def next_wakeup(fleet: Fleet, now: Instant) -> float:
    """Return when ``Woke`` is due, in monotonic seconds, always later than now; infinity while a call is in flight."""
    if fleet.doing or fleet.wake_s is None or fleet.phase is Phase.ENDED:
        return inf
    return max(fleet.wake_s, now.mono_s + 0.001)


def _began(fleet: Fleet, event: fw.Began, now: Instant) -> Outcome:
    may_stop = fleet.stop_before or fleet.stop_passed_on or fleet.doing == "PassOnStop"
    fleet = fleet.with_(
        policy=event.policy, on=event.on or fleet.on, stop_passed_on=False, stop_before=may_stop,
        look=False, fresh=False, closing=None, stray=None, unsaved=None, told=(), news=(), quiet_s=None, balance_s=None,
        look_lost_s=now.mono_s if fleet.lost_ones else None, lost_looks=0,
    )  # fmt: skip
    fleet = fleet.with_(doing="", wake_s=None, absent=0, troubles=0, stop="", stop_s=None).trusted(now.mono_s)
    if fleet.phase is Phase.ENDED:
        fleet = fleet.with_(phase=Phase.LOOKING, refusals=0, fruitless=0, exit_code=None, release_then="", name="")
        fleet = fleet.with_(lives_before=len(fleet.lives), units_first=None)
    return serving.look(fleet)


def _woke(fleet: Fleet, _event: fw.Woke, now: Instant) -> Outcome:
    if fleet.doing:
        return fleet, ()
    fleet = fleet.with_(wake_s=None)
    if fleet.closing is not None:
        return ending.close(fleet)
    if fleet.machine is None or fleet.absent or fleet.look:
        return serving.look(fleet, now)
    return _woke_with_a_machine(fleet, now)


def _woke_with_a_machine(fleet: Fleet, now: Instant) -> Outcome:
    if fleet.stop and fleet.stop_s is not None and now.mono_s >= fleet.stop_s:
        return serving.give_up_stopping(fleet)
    if fleet.policy.paid and fleet.phase is Phase.SERVING and now.mono_s >= (fleet.balance_s or 0.0):
        return fleet.with_(balance_s=now.mono_s + BALANCE_S).calling("CheckBalance"), (fw.CheckBalance(),)
    if ending.lost_look_due(fleet, now):
        return serving.look(fleet)
    return serving.go_on(fleet, now)


def _told(fleet: Fleet, event: fw.Told, now: Instant) -> Outcome:
    if event.wish == "leave":
        return ending.leave(fleet)
    return serving.ask_to_stop(fleet, event.words or "stopped by you", now)


def _balanced(fleet: Fleet, event: fw.Balanced, now: Instant) -> Outcome:
    first = event.units if fleet.units_first is None else fleet.units_first
    fleet = fleet.with_(
        units=event.units, units_first=first, units_per_hour=event.units_per_hour, units_wall_s=now.wall_s
    )
    if _only_counts(fleet):
        return ending.final(fleet)
    return fleet.calling("ListMachines"), (fw.ListMachines(),)


def _only_counts(fleet: Fleet) -> bool:
    """The last machine is given back, and only what it cost is asked for."""
    return fleet.machine is None and fleet.phase is Phase.RELEASING


def _listed(fleet: Fleet, event: fw.Listed, now: Instant) -> Outcome:
    fleet = fleet.with_(doing="")
    here = {each.endpoint: each for each in event.machines}
    fleet, said = _report(fleet, event.machines)
    if fleet.closing is not None:
        fleet, commands = ending.closing_listed(fleet, event.machines)
        return fleet, (*said, *commands)
    if fleet.machine is not None:
        fleet, commands = _listed_beside(fleet, fleet.machine, event.machines, now)
        return fleet, (*said, *commands)
    known = next((life for life in reversed(fleet.lives) if life.machine.endpoint in here), None)
    if known is not None:
        fleet, commands = serving.there_again(fleet, known, here[known.machine.endpoint], now)
        return fleet, (*said, *commands)
    # of any name that was ever asked for: one whose bring-up failed in an unknown way may come to light much later
    mine = next((each for each in event.machines if each.name.startswith(f"{fleet.prefix}-")), None)
    others = [each for each in event.machines if each.name and fleet.policy.paid]
    if mine is not None:
        fleet, commands = serving.taken_up(fleet, mine, now)
    elif others:
        fleet, commands = ending.of_another_run(fleet, others[0])
    else:
        fleet, commands = serving.next_machine(fleet.with_(before=tuple(here)), now)
    return fleet, (*said, *commands)


def _listed_beside(fleet: Fleet, machine: Machine, machines: Sequence[Machine], now: Instant) -> Outcome:
    """Say what a listing means for the machine that serves, and for a lost one beside it."""
    if ending.lost_look_due(fleet, now):
        fleet = ending.next_lost_look(fleet, now)
    found = next((each for each in machines if each.endpoint == machine.endpoint), None)
    stray = ending.stray_in(fleet, machines)
    if stray is not None and found is not None and fleet.phase is not Phase.RELEASING:
        return ending.give_back(fleet.with_(absent=0), stray)
    return serving.about_ours(fleet, found, now)


def _report(fleet: Fleet, machines: Any) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Tell of a machine that appeared while one was being brought up and that cannot be proved to be ours."""
    if fleet.machine is not None or fleet.phase is not Phase.BRINGING_UP:
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
    if (at_its_end := _failed_at_the_end(fleet, event, now)) is not None:
        return at_its_end
    trouble_s = now.mono_s if fleet.troubles == 0 else fleet.trouble_s
    fleet = fleet.with_(troubles=fleet.troubles + 1, deaf=_deaf(fleet, event), trouble_s=trouble_s, trouble=event.words)
    if fleet.machine is not None and (given_up := _given_up(fleet, fleet.machine, event, now)):
        return given_up
    if fleet.troubles == 1 and (event.kind == "gone" or (event.call == "Poll" and event.kind == "unreachable")):
        return serving.look(fleet)  # at once, because it may be dead, and every minute of that is lost
    fleet, said = waiting.trouble(fleet, event, now)
    # a listing that fails is no answer: the machine itself is asked in turn
    unlisted = event.call in {"ListMachines", "CheckBalance"}
    look = fleet.machine is None or (fleet.troubles >= TROUBLES_BEFORE_LISTING and not unlisted)
    pause_s = min(fleet.policy.poll_s * 2**fleet.troubles, PAUSE_S_MAX)
    return fleet.with_(wake_s=now.mono_s + pause_s, look=look, absent=0 if unlisted else fleet.absent), said


def _failed_at_the_end(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome | None:
    """Return what follows where the machine that serves has no part in it: at the end, or for one beside it."""
    if fleet.closing is not None:
        return ending.closing_failed(fleet, event, now)
    if _only_counts(fleet):
        return ending.final(fleet)
    if event.call == "Release" and fleet.stray is not None:
        return ending.not_given_back(fleet, event, now)
    if _hopeless(fleet, event):
        return ending.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.words, event.hint)
    return None


def _hopeless(fleet: Fleet, event: fw.Failed) -> bool:
    """Say whether only a person can mend it, at the start of a launch; later it is waited for, and said."""
    if fleet.machine is not None or event.kind not in {"login", "denied", "failed"}:
        return False
    if event.kind == "failed" and event.call != "BringUp" and fleet.troubles < FAILURES_MAX - 1:
        return False
    return len(fleet.lives) == fleet.lives_before or (event.kind == "denied" and event.call == "BringUp")


def _deaf(fleet: Fleet, event: fw.Failed) -> int:
    """Count polls that failed while listings came through: without a network here, nothing speaks against the machine."""
    if event.call in {"ListMachines", "CheckBalance"}:
        return 0
    return fleet.deaf + (event.call == "Poll" and event.kind != "home")


def _is_lost(fleet: Fleet, event: fw.Failed) -> bool:
    """Return True if a failed call proves that the machine is gone.

    Either the provider said so, or the machine does not answer and the last listings lack it.
    """
    if event.call == "Poll":
        listed_no_more = fleet.absent >= fleet.policy.listings and fleet.phase is not Phase.RELEASING
        return listed_no_more and event.kind in {"gone", "unreachable"}
    return event.call == "Adopt" and event.kind == "gone"


def _given_up(fleet: Fleet, machine: Machine, event: fw.Failed, now: Instant) -> Outcome | None:
    """Return what follows where trying again on this machine is no use."""
    if _is_lost(fleet, event):
        return serving.lost(fleet, now)
    if event.call == "PassOnStop" and event.kind == "nothing" and fleet.empty:
        return serving.release(fleet, "end")  # its status was read since, and nothing was trained there
    if event.call == "Release" and fleet.troubles >= RELEASES_MAX:
        words = f"{machine.endpoint} could not be given back, and may go on using units: {event.words}"
        hint = ending.release_command(fleet, machine.endpoint)
        return ending.end(fleet, fleet.exit_code or errors.FAILED, "FAILED_CONTROLLER", words, hint)
    said = fw.Say("error", event.words, event.hint)
    if event.call == "Prepare" and event.kind == "hopeless":  # it is this computer's: no other machine can help
        fleet, commands = serving.release(fleet.with_(exit_code=errors.FAILED_PRECHECKS), "end")
        return fleet, (said, *commands)
    if event.call in {"Prepare", "StartAgent"} and event.kind == "failed" and fleet.troubles >= FAILURES_MAX:
        fleet, commands = serving.release(fleet, "next")
        return fleet, (said, *commands)
    return None


def _not_brought_up(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome:
    if _hopeless(fleet, event):
        return ending.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.words, event.hint)
    if fleet.stop and event.kind != "unreachable":
        return ending.end(fleet, fleet.stop_code, "CANCELLED", fleet.stop)
    refusals = fleet.refusals + 1
    if refusals > fleet.policy.refusals_max:
        words = f"no machine was to be had in {refusals} tries: {event.words}"
        return ending.end(
            fleet, errors.NO_PROGRESS, "FAILED_NO_RESOURCE", words, event.hint or "try other hardware, or later"
        )
    first_s, most_s = (QUOTA_S, QUOTA_S_MAX) if event.kind == "quota" else (REFUSED_S, REFUSED_S_MAX)
    if event.kind in {"unreachable", "login"}:
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
