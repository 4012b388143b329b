"""The fleet's end: the last machine is back, lost ones are looked for once more, and what may still cost is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import errors
from supervisor.core import fleet_unsaved as unsaved
from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import GIVEN_BACK, LEFT, LOST, Fleet, Life, Phase
from supervisor.core.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.core.instant import Instant
    from supervisor.core.provisioning import Machine

Outcome = tuple[Fleet, tuple[fw.Command, ...]]

CLOSING_TRIES = 3
CLOSING_APART_S = 5.0
LOST_LOOK_S, LOST_LOOK_S_MAX = 60.0, 900.0


def final(fleet: Fleet) -> Outcome:
    """The last machine is given back: end as the run did."""
    code = fleet.stop_code if fleet.exit_code is None else fleet.exit_code
    cancelled = {errors.INTERRUPTED, errors.TERMINATED}
    if code == 0:
        return end(fleet, 0, "SUCCEEDED", "the run is finished, and this computer holds its results")
    if fleet.stop and fleet.stop_code == errors.NO_PROGRESS:
        return end(fleet, fleet.stop_code, "FAILED", fleet.stop, unsaved.HINT)
    if code in cancelled or fleet.stop:
        state = "CANCELLED" if code in cancelled else "PENDING"
        return end(fleet, code, state, fleet.stop or "the run was stopped", "the same command goes on with it")
    words = {errors.FENCED: "another machine has the run", errors.NO_PROGRESS: "the run makes no progress"}
    hint = "read all of its output: `logs`"
    told = words.get(code, f"the run ended with exit code {code}")
    return end(fleet, code, "FAILED", f"{told}: {fleet.cause}" if fleet.cause else told, hint)


def release_command(fleet: Fleet, endpoint: str) -> str:
    """Return the command that gives one machine back."""
    return f"`launch --on {fleet.on or 'PLACE'} --release {endpoint}`"


def end(fleet: Fleet, code: int, state: str, words: str, hint: str = "") -> Outcome:
    """End the controller; where a lost machine may still cost, after a last listing."""
    if fleet.closing is None and fleet.machine is None and fleet.lost_ones and state != LEFT:
        fleet = fleet.with_(closing=(code, state, words, hint), closing_tries=0, phase=Phase.RELEASING, exit_code=code)
        return fleet.calling("ListMachines"), (fw.ListMachines(),)
    fleet = fleet.with_(phase=Phase.ENDED if state != LEFT else fleet.phase, exit_code=code, doing="", wake_s=None)
    return fleet.with_(closing=None), (fw.End(code, state, words, hint),)


def leave(fleet: Fleet) -> Outcome:
    """End this controller at once; the machine, or the call in flight, goes on by itself."""
    words, hint = "no machine of this run is up", "the same command goes on with the run"
    if fleet.machine is not None:
        words, hint = f"{fleet.machine.endpoint} goes on by itself", "the same command takes it up again"
    if fleet.doing == "BringUp":
        words = f"a machine may still appear: {fleet.name}"
        hint = (
            f"the same command takes it up; or `launch --on {fleet.on or 'PLACE'} --list`, and --release gives it back"
        )
    elif fleet.doing == "Release" and (about := fleet.stray or fleet.machine) is not None:
        words, hint = f"{about.endpoint} is being given back", "the same command sees to it that it is"
    fleet = fleet.with_(stop_before=fleet.stop_before or fleet.stop_passed_on or fleet.doing == "PassOnStop")
    return end(fleet, errors.INTERRUPTED, LEFT, words, hint)


def of_another_run(fleet: Fleet, machine: Machine) -> Outcome:
    """A machine of another run of this computer is up: one at a time for an account."""
    words = f"{machine.endpoint} of another run ({machine.name}) is up; one machine at a time for an account"
    hint = (
        f"launch that run again to go on with it, or give the machine back: {release_command(fleet, machine.endpoint)}"
    )
    return end(fleet, errors.FENCED, "PENDING", words, hint)


def close(fleet: Fleet) -> Outcome:
    """Look once more before the end."""
    return fleet.with_(wake_s=None).calling("ListMachines"), (fw.ListMachines(),)


def closing_listed(fleet: Fleet, machines: Iterable[Machine]) -> Outcome:
    """Give back what is ours of the last listing; end if nothing is."""
    assert fleet.closing is not None
    stray = stray_in(fleet, machines)
    return end(fleet, *fleet.closing) if stray is None else give_back(fleet, stray)


def closing_failed(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome:
    """Try again some times, and then name what may still cost."""
    closing = fleet.closing
    assert closing is not None
    fleet = fleet.with_(closing_tries=fleet.closing_tries + 1, stray=None)
    if fleet.closing_tries < CLOSING_TRIES:
        return fleet.with_(wake_s=now.mono_s + CLOSING_APART_S), ()
    said = [
        fw.Say(
            "warning",
            f"{life.machine.endpoint} was lost, and it is not known whether it is gone: {event.words}",
            f"it may cost units; give it back: {release_command(fleet, life.machine.endpoint)}",
        )
        for life in fleet.lost_ones
    ]
    fleet, commands = end(fleet, *closing)
    return fleet, (*said, *commands)


def stray_in(fleet: Fleet, machines: Iterable[Machine]) -> Machine | None:
    """Return a listed machine that is provably ours and does not serve: a lost one, or one of our names."""
    serving = fleet.machine and fleet.machine.endpoint
    lost = {life.machine.endpoint: life.machine for life in fleet.lost_ones}
    for each in machines:
        if each.endpoint == serving:
            continue
        if each.endpoint in lost:
            return lost[each.endpoint]
        if each.name.startswith(f"{fleet.prefix}-"):
            return each
    return None


def give_back(fleet: Fleet, stray: Machine) -> Outcome:
    """Give a machine of ours back that does not serve."""
    said = fw.Say(
        "warning", f"{stray.endpoint} was taken for lost and is listed again: giving it back, because it costs units"
    )
    told: tuple[fw.Command, ...] = () if stray == fleet.stray else (said,)
    return fleet.with_(stray=stray).calling("Release"), (*told, fw.Release(stray))


def given_back(fleet: Fleet, endpoint: str) -> tuple[Fleet, fw.Say]:
    """Note that a machine beside the one that serves is off the list."""

    def noted(life: Life) -> Life:
        return replace(life, end=GIVEN_BACK) if (life.machine.endpoint, life.end) == (endpoint, LOST) else life

    fleet = fleet.with_(doing="", stray=None, lives=tuple(noted(life) for life in fleet.lives))
    return fleet, fw.Say("info", f"{endpoint} is given back")


def not_given_back(fleet: Fleet, event: fw.Failed, now: Instant) -> Outcome:
    """A machine beside the one that serves could not be given back: say so, and try again at the next listing for it."""
    assert fleet.stray is not None
    endpoint = fleet.stray.endpoint
    said: Any = fw.Say(
        "warning", f"{endpoint} could not be given back yet: {event.words}", release_command(fleet, endpoint)
    )
    return fleet.with_(stray=None, wake_s=now.mono_s), (said,)


def lost_look_due(fleet: Fleet, now: Instant) -> bool:
    """Say whether the list is to be asked for a lost machine that may still cost."""
    if fleet.look_lost_s is None or now.mono_s < fleet.look_lost_s:
        return False
    return any(life.began_wall_s + fleet.policy.billed_s > now.wall_s for life in fleet.lost_ones)


def next_lost_look(fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet with the time of the next listing for lost machines: a minute, then ever longer."""
    pause_s = min(LOST_LOOK_S * 2**fleet.lost_looks, LOST_LOOK_S_MAX)
    return fleet.with_(lost_looks=fleet.lost_looks + 1, look_lost_s=now.mono_s + pause_s)
