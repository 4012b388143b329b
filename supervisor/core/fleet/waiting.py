"""What the fleet's controller says while nothing changes, and which of its troubles are shown."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING

from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.state import Fleet, FleetPhase
from supervisor.core.humanize import duration

if TYPE_CHECKING:
    from supervisor.core.clock import Instant

QUIET_S = 170.0  # below three minutes, the longest time without a word
QUIET_AGAIN_S = 150.0  # while no status comes, so that no progress is shown either
QUIET_AGAIN_S_MAX = 1800.0
ERROR_AGAIN_S = 1800.0
ERRORS_APART_S = 60.0
ERROR_OVER_S = 300.0
_NUMBERS = re.compile(r"\d[\d,.]*")
_STATES = {"PENDING": "STOPPED", "FAILED_PRECHECKS": "COULD NOT START", "FAILED_CONTROLLER": "FAILED"}
_CALLS: dict[str, str] = {
    fw.CallName.CHECK_BALANCE: "the account's balance", fw.CallName.LIST_MACHINES: "the list of machines", fw.CallName.CREATE_MACHINE: "the new machine {}",
    fw.CallName.ADOPT_MACHINE: "{} to be usable again", fw.CallName.PREPARE_MACHINE: "code and checkpoint to reach {}",
    fw.CallName.START_AGENT: "our agent to start on {}", fw.CallName.POLL_MACHINE: "a new step of {}", fw.CallName.RESTART_AGENT: "what runs on {} to end",
    fw.CallName.FORWARD_STOP: "the stop to be written down for {}", fw.CallName.RELEASE_MACHINE: "{} to be released",
}  # fmt: skip
_PHASES = {
    FleetPhase.LOOKING: "the list of machines", FleetPhase.WAITING: "the next try to get a machine", FleetPhase.BRINGING_UP: "the next try to get a machine",
    FleetPhase.PREPARING: "the next try to send code and checkpoint to {}", FleetPhase.STARTING: "the next try to start our agent on {}",
    FleetPhase.SERVING: "a new step of {}", FleetPhase.RELEASING: "the next attempt to release {}",
}  # fmt: skip


def with_progress(before: Fleet, fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet with the time of its newest change: another phase, machine or step, or something newly safe."""
    life = fleet.service
    news = (
        fleet.phase,
        fleet.machine and fleet.machine.endpoint,
        life and life.step,
        fleet.durable_step,
        len(fleet.machine_history),
        fleet.stop,
    )
    if news == before.news:
        return fleet
    return fleet.with_(news=news, news_s=now.mono_s, quiet_s=None)


def due_s(fleet: Fleet) -> float:
    """Return when the next word about waiting is due, in monotonic seconds; infinity after the end."""
    if fleet.phase is FleetPhase.ENDED or not fleet.news:
        return inf
    if fleet.quiet_s is None:
        return fleet.news_s + QUIET_S
    return min(fleet.quiet_s, max(fleet.last_report_s, fleet.heard_s) + QUIET_AGAIN_S)


def report_wait(fleet: Fleet, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Say what is waited for, since when, what it costs and what can be done.

    While statuses come, each shows the progress, and the words come at twice the age of the last news. Else they come again
    after ``QUIET_AGAIN_S``.
    """
    if now.mono_s < due_s(fleet):
        return fleet, ()
    since_s = now.mono_s - fleet.news_s
    fleet = fleet.with_(last_report_s=now.mono_s, quiet_s=now.mono_s + min(2 * since_s, QUIET_AGAIN_S_MAX))
    words = f"nothing has changed for {duration(since_s)}: waiting for {describe_wait(fleet, now)}; {_cost(fleet)}"
    if fleet.consecutive_errors and fleet.trouble:
        words = f"{words}; the newest trouble: {fleet.trouble}"
    return fleet, (fw.Report("warning", words, _what_to_do(fleet)),)


def describe_wait(fleet: Fleet, now: Instant) -> str:
    """Name what is waited for now."""
    about = (fleet.call_in_flight == fw.CallName.RELEASE_MACHINE and fleet.stray) or fleet.machine
    who = fleet.name if about is None or fleet.call_in_flight == fw.CallName.CREATE_MACHINE else about.endpoint
    if fleet.phase is FleetPhase.SERVING and fleet.call_in_flight in {"", fw.CallName.POLL_MACHINE}:
        what = "the results of {}" if fleet.fetching else _PHASES[fleet.phase]
        return f"{what.format(who)}{f' (its last status: {fleet.status_line})' if fleet.status_line else ''}"
    if fleet.call_in_flight:
        return _CALLS[fleet.call_in_flight].format(who)
    again = "" if fleet.wake_s is None else f", in {duration(max(0.0, fleet.wake_s - now.mono_s))}"
    return f"{_PHASES.get(fleet.phase, fleet.phase.value).format(who)}{again}"


def report_error(fleet: Fleet, event: fw.CallFailed, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Show a trouble that was not shown yet, and each again after half an hour with its age.

    One call that did not get through is an everyday event, so the first of those is not shown.
    """
    key, told = f"{event.kind}: {event.message}", dict(fleet.errors_reported)
    if key in told:
        worth = now.mono_s - told[key] >= ERROR_AGAIN_S
    else:
        new_kind = not any(each.startswith(f"{event.kind}: ") for each in told)
        apart = new_kind or now.mono_s - max(told.values(), default=-inf) >= ERRORS_APART_S
        worth = apart and (event.kind != "unreachable" or fleet.consecutive_errors > 1)
    if not worth:
        return fleet, ()
    since_s = now.mono_s - fleet.trouble_s
    age = f" (for {duration(since_s)} now)" if since_s >= ERRORS_APART_S else ""
    kept = tuple((each, at_s) for each, at_s in fleet.errors_reported if each != key)[-20:]
    return fleet.with_(errors_reported=(*kept, (key, now.mono_s))), (
        fw.Report("warning", f"{event.message}{age}", event.hint),
    )


def warnings(fleet: Fleet, event: fw.MachinePolled, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Pass on what the supervisor on the machine warned of: each once, whatever its numbers, and after half an hour again."""
    machine = fleet.machine
    if machine is None:
        return fleet, ()
    said = []
    for words in event.warnings:
        key = f"warning: {_NUMBERS.sub('0', words)}"
        told = dict(fleet.errors_reported)
        if key in told and now.mono_s - told[key] < ERROR_AGAIN_S:
            continue
        said.append(fw.Report("warning", f"on {machine.name or machine.endpoint}: {words}", "see its output: `logs`"))
        fleet = fleet.with_(
            errors_reported=(*((each, at_s) for each, at_s in fleet.errors_reported if each != key), (key, now.mono_s))
        )
    return fleet, tuple(said)


def errors_over(fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet after a call that went well: what was shown some minutes ago may be shown again."""
    recent = tuple(
        (key, at_s)
        for key, at_s in fleet.errors_reported
        if now.mono_s - at_s <= (ERROR_AGAIN_S if key.startswith("warning: ") else ERROR_OVER_S)
    )
    return fleet.with_(errors_reported=recent) if len(recent) < len(fleet.errors_reported) else fleet


def _cost(fleet: Fleet) -> str:
    if fleet.machine is None:
        return (
            "no machine of this run is up, so it costs nothing"
            if fleet.call_in_flight != fw.CallName.CREATE_MACHINE
            else "a machine may begin to cost"
        )
    if not fleet.policy.paid:
        return "the machine costs no units"
    return f"it costs {fleet.units_per_hour:.2f} units/h" if fleet.units_per_hour else "it costs units"


def _what_to_do(fleet: Fleet) -> str:
    if fleet.machine is None:
        return "it continues by itself; Ctrl-C ends it, and the same command goes on later"
    return "it continues by itself; see its output: `logs`; Ctrl-C saves and releases the machine"


def state_text(state: str) -> str:
    """Return the state in which a launch ended, for people."""
    return _STATES.get(state, state)


def spent(fleet: Fleet, now: Instant) -> str:
    """Return units used, the rate and units left; "" where nobody counts units."""
    if fleet.units is None:
        return ""
    rate, left = fleet.units_per_hour or 0.0, fleet.left(now.wall_s)
    lasting = f" (for {duration(left / rate * 3600)})" if rate > 0 and fleet.machine is not None else ""
    parts = [f"{fleet.used(now.wall_s):,.2f} units used"]
    parts += [f"{rate:,.2f}/h"] if fleet.machine is not None and rate > 0 else []
    return " · ".join([*parts, f"{left:,.2f} left{lasting}"])
