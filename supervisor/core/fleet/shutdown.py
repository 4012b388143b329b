"""The fleet's end: the last machine is back, lost ones are looked for once more, and what may still cost is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import errors
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet import unsaved
from supervisor.core.fleet.state import GIVEN_BACK, LEFT, LOST, Fleet, FleetPhase, MachineService
from supervisor.core.frozen import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.core.clock import Instant
    from supervisor.core.fleet.provisioning import Machine

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
        return end(fleet, code, state, fleet.stop or "the run was stopped", "the same command resumes it")
    words = {errors.FENCED: "another machine has the run", errors.NO_PROGRESS: "the run makes no progress"}
    hint = "read all of its output: `logs`"
    told = words.get(code, f"the run ended with exit code {code}")
    return end(fleet, code, "FAILED", f"{told}: {fleet.cause}" if fleet.cause else told, hint)


def release_command(fleet: Fleet, endpoint: str) -> str:
    """Return the command that gives one machine back."""
    return f"`launch --on {fleet.provider or 'PLACE'} --release {endpoint}`"


def end(fleet: Fleet, code: int, state: str, words: str, hint: str = "") -> Outcome:
    """End the controller; where a lost machine may still cost, after a last listing."""
    if fleet.closing is None and fleet.machine is None and fleet.lost_ones and state != LEFT:
        fleet = fleet.with_(
            closing=(code, state, words, hint), closing_tries=0, phase=FleetPhase.RELEASING, exit_code=code
        )
        return fleet.calling(fw.CallName.LIST_MACHINES), (fw.ListMachines(),)
    fleet = fleet.with_(
        phase=FleetPhase.ENDED if state != LEFT else fleet.phase, exit_code=code, call_in_flight="", wake_s=None
    )
    return fleet.with_(closing=None), (fw.EndController(code, state, words, hint),)


def leave(fleet: Fleet) -> Outcome:
    """End this controller at once; the machine, or the call in flight, continues by itself."""
    words, hint = "no machine of this run is up", "the same command goes on with the run"
    if fleet.machine is not None:
        words, hint = f"{fleet.machine.endpoint} continues by itself", "the same command attaches to it again"
    if fleet.call_in_flight == fw.CallName.CREATE_MACHINE:
        words = f"a machine may still appear: {fleet.name}"
        hint = f"the same command attaches to it; or `launch --on {fleet.provider or 'PLACE'} --list`, and --release releases it"
    elif fleet.call_in_flight == fw.CallName.RELEASE_MACHINE and (about := fleet.stray or fleet.machine) is not None:
        words, hint = f"{about.endpoint} is being released", "the same command completes that"
    fleet = fleet.with_(
        stop_before=fleet.stop_before or fleet.stop_forwarded or fleet.call_in_flight == fw.CallName.FORWARD_STOP
    )
    return end(fleet, errors.INTERRUPTED, LEFT, words, hint)


def of_another_run(fleet: Fleet, machine: Machine) -> Outcome:
    """A machine of another run of this computer is up: one at a time for an account."""
    words = f"{machine.endpoint} of another run ({machine.name}) is up; one machine at a time for an account"
    hint = f"launch that run again to resume it, or release the machine: {release_command(fleet, machine.endpoint)}"
    return end(fleet, errors.FENCED, "PENDING", words, hint)


def close(fleet: Fleet) -> Outcome:
    """Look once more before the end."""
    return fleet.with_(wake_s=None).calling(fw.CallName.LIST_MACHINES), (fw.ListMachines(),)


def closing_listed(fleet: Fleet, machines: Iterable[Machine]) -> Outcome:
    """Give back what is ours of the last listing; end if nothing is."""
    assert fleet.closing is not None
    stray = stray_in(fleet, machines)
    return end(fleet, *fleet.closing) if stray is None else release_stray(fleet, stray)


def closing_failed(fleet: Fleet, event: fw.CallFailed, now: Instant) -> Outcome:
    """Try again some times, and then name what may still cost."""
    closing = fleet.closing
    assert closing is not None
    fleet = fleet.with_(closing_tries=fleet.closing_tries + 1, stray=None)
    if fleet.closing_tries < CLOSING_TRIES:
        return fleet.with_(wake_s=now.mono_s + CLOSING_APART_S), ()
    said = [
        fw.Report(
            "warning",
            f"{life.machine.endpoint} was lost, and it is not known whether it is gone: {event.message}",
            f"it may cost units; release it: {release_command(fleet, life.machine.endpoint)}",
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


def release_stray(fleet: Fleet, stray: Machine) -> Outcome:
    """Give a machine of ours back that does not serve."""
    said = fw.Report(
        "warning", f"{stray.endpoint} was taken for lost and is listed again: releasing it, because it costs units"
    )
    told: tuple[fw.Command, ...] = () if stray == fleet.stray else (said,)
    return fleet.with_(stray=stray).calling(fw.CallName.RELEASE_MACHINE), (*told, fw.ReleaseMachine(stray))


def machine_released(fleet: Fleet, endpoint: str) -> tuple[Fleet, fw.Report]:
    """Note that a machine beside the one that serves is off the list."""

    def noted(life: MachineService) -> MachineService:
        return replace(life, end=GIVEN_BACK) if (life.machine.endpoint, life.end) == (endpoint, LOST) else life

    fleet = fleet.with_(
        call_in_flight="", stray=None, machine_history=tuple(noted(life) for life in fleet.machine_history)
    )
    return fleet, fw.Report("info", f"{endpoint} is released")


def release_failed(fleet: Fleet, event: fw.CallFailed, now: Instant) -> Outcome:
    """A machine beside the one that serves could not be released: say so, and try again at the next listing for it."""
    assert fleet.stray is not None
    endpoint = fleet.stray.endpoint
    said: Any = fw.Report(
        "warning", f"{endpoint} could not be released yet: {event.message}", release_command(fleet, endpoint)
    )
    return fleet.with_(stray=None, wake_s=now.mono_s), (said,)


def lost_listing_due(fleet: Fleet, now: Instant) -> bool:
    """Say whether the list is to be asked for a lost machine that may still cost."""
    if fleet.lost_listing_s is None or now.mono_s < fleet.lost_listing_s:
        return False
    return any(life.began_wall_s + fleet.policy.billed_s > now.wall_s for life in fleet.lost_ones)


def next_lost_listing(fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet with the time of the next listing for lost machines: a minute, then ever longer."""
    pause_s = min(LOST_LOOK_S * 2**fleet.lost_listings, LOST_LOOK_S_MAX)
    return fleet.with_(lost_listings=fleet.lost_listings + 1, lost_listing_s=now.mono_s + pause_s)
