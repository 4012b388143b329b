"""The fleet's controller: one machine after another serves a run until it ends. ``decide`` is all of it, and pure.

One call at a time is in flight (``doing``); its outcome comes back as an event. Everything is folded from the events, so that a
controller that was killed goes on from its journal: it lists the machines, and every one that it ever brought up is known.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from supervisor.core import errors
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet import serving, waiting
from supervisor.core.fleet import shutdown as ending
from supervisor.core.fleet.state import Fleet, FleetPhase
from supervisor.core.humanize import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.fleet.provisioning import Machine
    from supervisor.core.fleet.serving import Outcome

PAUSE_S_MAX = 60.0
REFUSED_S, REFUSED_S_MAX = 60.0, 1800.0
QUOTA_S, QUOTA_S_MAX = 1800.0, 4 * 3600.0
ERRORS_BEFORE_LISTING = 2
FAILURES_MAX = 3  # of one machine to get ready
RELEASES_MAX = 30
BALANCE_S = 900.0


def decide(fleet: Fleet, event: fw.Event, now: Instant) -> Outcome:
    """Return the fleet after the event, and what to do: at most one call, and words."""
    if fleet.phase is FleetPhase.ENDED and not isinstance(event, fw.ControllerStarted):
        return fleet, ()
    if isinstance(event, fw.WaitEnded):
        return waiting.report_wait(fleet, now)
    if fleet.machine is None and isinstance(event, _OF_A_MACHINE):
        return fleet.with_(call_in_flight="", wake_s=now.mono_s), ()  # it was declared lost meanwhile
    after, commands = _TABLE[type(event)](fleet, event, now)
    return waiting.with_progress(fleet, after, now), commands


def next_wakeup(fleet: Fleet, now: Instant) -> float:
    """Return when ``Woke`` is due, in monotonic seconds, always later than now; infinity while a call is in flight."""
    if fleet.call_in_flight or fleet.wake_s is None or fleet.phase is FleetPhase.ENDED:
        return inf
    return max(fleet.wake_s, now.mono_s + 0.001)


def _controller_started(fleet: Fleet, event: fw.ControllerStarted, now: Instant) -> Outcome:
    may_stop = fleet.stop_before or fleet.stop_forwarded or fleet.call_in_flight == fw.CallName.FORWARD_STOP
    fleet = fleet.with_(
        policy=event.policy, provider=event.provider or fleet.provider, stop_forwarded=False, stop_before=may_stop,
        look=False, fresh=False, closing=None, stray=None, unsaved=None, errors_reported=(), news=(), quiet_s=None, balance_s=None,
        lost_listing_s=now.mono_s if fleet.lost_ones else None, lost_listings=0,
    )  # fmt: skip
    fleet = fleet.with_(call_in_flight="", wake_s=None, absent=0, consecutive_errors=0, stop="", stop_s=None).trusted(
        now.mono_s
    )
    if fleet.phase is FleetPhase.ENDED:
        fleet = fleet.with_(
            phase=FleetPhase.LOOKING,
            provision_failures=0,
            machines_without_progress=0,
            exit_code=None,
            release_then="",
            name="",
        )
        fleet = fleet.with_(earlier_machines=len(fleet.machine_history), units_first=None)
    return serving.list_machines(fleet)


def _timer_fired(fleet: Fleet, _event: fw.PollTimerFired, now: Instant) -> Outcome:
    if fleet.call_in_flight:
        return fleet, ()
    fleet = fleet.with_(wake_s=None)
    if fleet.closing is not None:
        return ending.close(fleet)
    if fleet.machine is None or fleet.absent or fleet.look:
        return serving.list_machines(fleet, now)
    return _woke_with_a_machine(fleet, now)


def _woke_with_a_machine(fleet: Fleet, now: Instant) -> Outcome:
    if fleet.stop and fleet.stop_s is not None and now.mono_s >= fleet.stop_s:
        return serving.give_up_stopping(fleet)
    if fleet.policy.paid and fleet.phase is FleetPhase.SERVING and now.mono_s >= (fleet.balance_s or 0.0):
        return fleet.with_(balance_s=now.mono_s + BALANCE_S).calling(fw.CallName.CHECK_BALANCE), (fw.CheckBalance(),)
    if ending.lost_listing_due(fleet, now):
        return serving.list_machines(fleet)
    return serving.go_on(fleet, now)


def _user_request(fleet: Fleet, event: fw.UserRequest, now: Instant) -> Outcome:
    if event.action == "leave":
        return ending.leave(fleet)
    return serving.request_stop(fleet, event.message or "stopped by you", now)


def _balance_read(fleet: Fleet, event: fw.BalanceRead, now: Instant) -> Outcome:
    first = event.units if fleet.units_first is None else fleet.units_first
    fleet = fleet.with_(
        units=event.units, units_first=first, units_per_hour=event.units_per_hour, units_wall_s=now.wall_s
    )
    if _only_counts(fleet):
        return ending.final(fleet)
    return fleet.calling(fw.CallName.LIST_MACHINES), (fw.ListMachines(),)


def _only_counts(fleet: Fleet) -> bool:
    """The last machine is given back, and only what it cost is asked for."""
    return fleet.machine is None and fleet.phase is FleetPhase.RELEASING


def _listed(fleet: Fleet, event: fw.MachinesListed, now: Instant) -> Outcome:
    fleet = fleet.with_(call_in_flight="")
    here = {each.endpoint: each for each in event.machines}
    fleet, said = _report(fleet, event.machines)
    if fleet.closing is not None:
        fleet, commands = ending.closing_listed(fleet, event.machines)
        return fleet, (*said, *commands)
    if fleet.machine is not None:
        fleet, commands = _listed_beside(fleet, fleet.machine, event.machines, now)
        return fleet, (*said, *commands)
    known = next((life for life in reversed(fleet.machine_history) if life.machine.endpoint in here), None)
    if known is not None:
        fleet, commands = serving.there_again(fleet, known, here[known.machine.endpoint], now)
        return fleet, (*said, *commands)
    # of any name that was ever asked for: one whose bring-up failed in an unknown way may come to light much later
    mine = next((each for each in event.machines if each.name.startswith(f"{fleet.prefix}-")), None)
    others = [each for each in event.machines if each.name and fleet.policy.paid]
    if mine is not None:
        fleet, commands = serving.machine_adopted(fleet, mine, now)
    elif others:
        fleet, commands = ending.of_another_run(fleet, others[0])
    else:
        fleet, commands = serving.next_machine(fleet.with_(before=tuple(here)), now)
    return fleet, (*said, *commands)


def _listed_beside(fleet: Fleet, machine: Machine, machines: Sequence[Machine], now: Instant) -> Outcome:
    """Say what a listing means for the machine that serves, and for a lost one beside it."""
    if ending.lost_listing_due(fleet, now):
        fleet = ending.next_lost_listing(fleet, now)
    found = next((each for each in machines if each.endpoint == machine.endpoint), None)
    stray = ending.stray_in(fleet, machines)
    if stray is not None and found is not None and fleet.phase is not FleetPhase.RELEASING:
        return ending.release_stray(fleet.with_(absent=0), stray)
    return serving.about_ours(fleet, found, now)


def _report(fleet: Fleet, machines: Any) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Tell of a machine that appeared while one was being brought up and that cannot be proved to be ours."""
    if fleet.machine is not None or fleet.phase is not FleetPhase.BRINGING_UP:
        return fleet, ()
    known = {*fleet.before, *fleet.unowned_reported, *(life.machine.endpoint for life in fleet.machine_history)}
    new = [each.endpoint for each in machines if not each.name and each.endpoint not in known]
    said = tuple(
        fw.Report(
            "warning", f"{each} appeared while a machine was being brought up, and cannot be proved to be ours; it may cost units",
            "if you have not opened it yourself, end it at its provider: launch --list shows it, and it is not touched from here",
        )
        for each in new
    )  # fmt: skip
    return fleet.with_(unowned_reported=(*fleet.unowned_reported, *new)), said


def _call_failed(fleet: Fleet, event: fw.CallFailed, now: Instant) -> Outcome:
    life = fleet.service and fleet.service.reached(None, event.durable_step, now.wall_s)
    fleet = fleet.with_(
        call_in_flight="",
        service=life,
        durable_step=fleet.durable_step if event.durable_step is None else event.durable_step,
    )
    if event.call == fw.CallName.CREATE_MACHINE:
        return _not_brought_up(fleet, event, now)
    if (at_its_end := _failed_at_the_end(fleet, event, now)) is not None:
        return at_its_end
    trouble_s = now.mono_s if fleet.consecutive_errors == 0 else fleet.trouble_s
    fleet = fleet.with_(
        consecutive_errors=fleet.consecutive_errors + 1,
        failed_polls=_failed_poll_count(fleet, event),
        trouble_s=trouble_s,
        trouble=event.message,
    )
    if fleet.machine is not None and (given_up := _given_up(fleet, fleet.machine, event, now)):
        return given_up
    if fleet.consecutive_errors == 1 and (
        event.kind == "gone" or (event.call == fw.CallName.POLL_MACHINE and event.kind == "unreachable")
    ):
        return serving.list_machines(fleet)  # at once, because it may be dead, and every minute of that is lost
    fleet, said = waiting.report_error(fleet, event, now)
    # a listing that fails is no answer: the machine itself is asked in turn
    unlisted = event.call in {fw.CallName.LIST_MACHINES, fw.CallName.CHECK_BALANCE}
    look = fleet.machine is None or (fleet.consecutive_errors >= ERRORS_BEFORE_LISTING and not unlisted)
    pause_s = min(fleet.policy.poll_s * 2**fleet.consecutive_errors, PAUSE_S_MAX)
    return fleet.with_(wake_s=now.mono_s + pause_s, look=look, absent=0 if unlisted else fleet.absent), said


def _failed_at_the_end(fleet: Fleet, event: fw.CallFailed, now: Instant) -> Outcome | None:
    """Return what follows where the machine that serves has no part in it: at the end, or for one beside it."""
    if fleet.closing is not None:
        return ending.closing_failed(fleet, event, now)
    if _only_counts(fleet):
        return ending.final(fleet)
    if event.call == fw.CallName.RELEASE_MACHINE and fleet.stray is not None:
        return ending.release_failed(fleet, event, now)
    if _hopeless(fleet, event):
        return ending.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.message, event.hint)
    return None


def _hopeless(fleet: Fleet, event: fw.CallFailed) -> bool:
    """Say whether only a person can mend it, at the start of a launch; later it is waited for, and said."""
    if fleet.machine is not None or event.kind not in {"login", "denied", "failed"}:
        return False
    if (
        event.kind == "failed"
        and event.call != fw.CallName.CREATE_MACHINE
        and fleet.consecutive_errors < FAILURES_MAX - 1
    ):
        return False
    return len(fleet.machine_history) == fleet.earlier_machines or (
        event.kind == "denied" and event.call == fw.CallName.CREATE_MACHINE
    )


def _failed_poll_count(fleet: Fleet, event: fw.CallFailed) -> int:
    """Count polls that failed while listings came through: without a network here, nothing speaks against the machine."""
    if event.call in {fw.CallName.LIST_MACHINES, fw.CallName.CHECK_BALANCE}:
        return 0
    return fleet.failed_polls + (event.call == fw.CallName.POLL_MACHINE and event.kind != "home")


def _is_lost(fleet: Fleet, event: fw.CallFailed) -> bool:
    """Return True if a failed call proves that the machine is gone.

    Either the provider said so, or the machine does not answer and the last listings lack it.
    """
    if event.call == fw.CallName.POLL_MACHINE:
        listed_no_more = fleet.absent >= fleet.policy.listings and fleet.phase is not FleetPhase.RELEASING
        return listed_no_more and event.kind in {"gone", "unreachable"}
    return event.call == fw.CallName.ADOPT_MACHINE and event.kind == "gone"


def _given_up(fleet: Fleet, machine: Machine, event: fw.CallFailed, now: Instant) -> Outcome | None:
    """Return what follows where trying again on this machine is no use."""
    if _is_lost(fleet, event):
        return serving.machine_lost(fleet, now)
    if event.call == fw.CallName.FORWARD_STOP and event.kind == "nothing" and fleet.empty:
        return serving.release(fleet, "end")  # its status was read since, and nothing was trained there
    if event.call == fw.CallName.RELEASE_MACHINE and fleet.consecutive_errors >= RELEASES_MAX:
        words = f"{machine.endpoint} could not be released and may use more units: {event.message}"
        hint = ending.release_command(fleet, machine.endpoint)
        return ending.end(fleet, fleet.exit_code or errors.FAILED, "FAILED_CONTROLLER", words, hint)
    said = fw.Report("error", event.message, event.hint)
    if (
        event.call == fw.CallName.PREPARE_MACHINE and event.kind == "hopeless"
    ):  # it is this computer's: no other machine can help
        fleet, commands = serving.release(fleet.with_(exit_code=errors.FAILED_PRECHECKS), "end")
        return fleet, (said, *commands)
    if (
        event.call in {fw.CallName.PREPARE_MACHINE, fw.CallName.START_AGENT}
        and event.kind == "failed"
        and fleet.consecutive_errors >= FAILURES_MAX
    ):
        fleet, commands = serving.release(fleet, "next")
        return fleet, (said, *commands)
    return None


def _not_brought_up(fleet: Fleet, event: fw.CallFailed, now: Instant) -> Outcome:
    if _hopeless(fleet, event):
        return ending.end(fleet, errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", event.message, event.hint)
    if fleet.stop and event.kind != "unreachable":
        return ending.end(fleet, fleet.stop_code, "CANCELLED", fleet.stop)
    refusals = fleet.provision_failures + 1
    if refusals > fleet.policy.provision_failures_max:
        words = f"no machine was to be had in {refusals} tries: {event.message}"
        return ending.end(
            fleet, errors.NO_PROGRESS, "FAILED_NO_RESOURCE", words, event.hint or "try other hardware, or later"
        )
    first_s, most_s = (QUOTA_S, QUOTA_S_MAX) if event.kind == "quota" else (REFUSED_S, REFUSED_S_MAX)
    if event.kind in {"unreachable", "login"}:
        first_s, most_s = fleet.policy.poll_s, PAUSE_S_MAX
    pause_s = min(first_s * 2 ** (refusals - 1), most_s)
    # with an unknown outcome the same name is asked for again: there may be a machine of it
    phase = FleetPhase.BRINGING_UP if event.kind == "unreachable" else FleetPhase.WAITING
    # the name is kept: an earlier try of unknown outcome may still have made a machine of it
    fleet = fleet.with_(provision_failures=refusals, phase=phase, wake_s=now.mono_s + pause_s)
    words = f"no machine: {event.message}; trying again in {duration(pause_s)}"
    return fleet, (fw.Report("warning", words, event.hint),)


_OF_A_MACHINE = (
    fw.MachineAdopted,
    fw.MachinePrepared,
    fw.AgentStarted,
    fw.MachinePolled,
    fw.AgentRestarted,
    fw.StopForwarded,
)
_TABLE: dict[type, Callable[[Fleet, Any, Instant], Outcome]] = {
    fw.ControllerStarted: _controller_started,
    fw.PollTimerFired: _timer_fired,
    fw.UserRequest: _user_request,
    fw.BalanceRead: _balance_read,
    fw.MachinesListed: _listed,
    fw.MachineCreated: serving.machine_created,
    fw.MachineAdopted: serving.adopted,
    fw.MachinePrepared: serving.machine_prepared,
    fw.AgentStarted: serving.agent_started,
    fw.MachinePolled: serving.machine_polled,
    fw.AgentRestarted: serving.agent_restarted,
    fw.StopForwarded: serving.stop_forwarded,
    fw.MachineReleased: serving.released,
    fw.CallFailed: _call_failed,
}
