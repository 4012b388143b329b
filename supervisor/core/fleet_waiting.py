"""What the fleet's controller says while nothing changes, and which of its troubles are shown."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING

from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import Fleet, Phase
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from supervisor.core.instant import Instant

QUIET_S = 170.0  # below three minutes, the longest time without a word
QUIET_AGAIN_S = 150.0  # while no status comes, so that no progress is shown either
QUIET_AGAIN_S_MAX = 1800.0
TROUBLE_AGAIN_S = 1800.0
TROUBLES_APART_S = 60.0
TROUBLE_OVER_S = 300.0
_NUMBERS = re.compile(r"\d[\d,.]*")
_STATES = {"PENDING": "STOPPED", "FAILED_PRECHECKS": "COULD NOT START", "FAILED_CONTROLLER": "FAILED"}
_CALLS = {
    "CheckBalance": "the account's balance", "ListMachines": "the list of machines", "BringUp": "the new machine {}",
    "Adopt": "{} to be usable again", "Prepare": "code and checkpoint to reach {}",
    "StartAgent": "our agent to start on {}", "Poll": "a new step of {}", "Restart": "what runs on {} to end",
    "PassOnStop": "the stop to be written down for {}", "Release": "{} to be given back",
}  # fmt: skip
_PHASES = {
    Phase.LOOKING: "the list of machines", Phase.WAITING: "the next try to get a machine", Phase.BRINGING_UP: "the next try to get a machine",
    Phase.PREPARING: "the next try to send code and checkpoint to {}", Phase.STARTING: "the next try to start our agent on {}",
    Phase.SERVING: "a new step of {}", Phase.RELEASING: "the next try to give {} back",
}  # fmt: skip


def with_news(before: Fleet, fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet with the time of its newest change: another phase, machine or step, or something newly safe."""
    life = fleet.life
    news = (
        fleet.phase,
        fleet.machine and fleet.machine.endpoint,
        life and life.step,
        fleet.safe,
        len(fleet.lives),
        fleet.stop,
    )
    if news == before.news:
        return fleet
    return fleet.with_(news=news, news_s=now.mono_s, quiet_s=None)


def due_s(fleet: Fleet) -> float:
    """Return when the next word about waiting is due, in monotonic seconds; infinity after the end."""
    if fleet.phase is Phase.ENDED or not fleet.news:
        return inf
    if fleet.quiet_s is None:
        return fleet.news_s + QUIET_S
    return min(fleet.quiet_s, max(fleet.word_s, fleet.heard_s) + QUIET_AGAIN_S)


def waited(fleet: Fleet, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Say what is waited for, since when, what it costs and what can be done.

    While statuses come, each shows the progress, and the words come at twice the age of the last news. Else they come again
    after ``QUIET_AGAIN_S``.
    """
    if now.mono_s < due_s(fleet):
        return fleet, ()
    since_s = now.mono_s - fleet.news_s
    fleet = fleet.with_(word_s=now.mono_s, quiet_s=now.mono_s + min(2 * since_s, QUIET_AGAIN_S_MAX))
    words = f"nothing has changed for {duration(since_s)}: waiting for {awaited(fleet, now)}; {_cost(fleet)}"
    if fleet.troubles and fleet.trouble:
        words = f"{words}; the newest trouble: {fleet.trouble}"
    return fleet, (fw.Say("warning", words, _what_to_do(fleet)),)


def awaited(fleet: Fleet, now: Instant) -> str:
    """Name what is waited for now."""
    about = (fleet.doing == "Release" and fleet.stray) or fleet.machine
    who = fleet.name if about is None or fleet.doing == "BringUp" else about.endpoint
    if fleet.phase is Phase.SERVING and fleet.doing in {"", "Poll"}:
        what = "the results of {}" if fleet.fetching else _PHASES[fleet.phase]
        return f"{what.format(who)}{f' (its last status: {fleet.line})' if fleet.line else ''}"
    if fleet.doing:
        return _CALLS[fleet.doing].format(who)
    again = "" if fleet.wake_s is None else f", in {duration(max(0.0, fleet.wake_s - now.mono_s))}"
    return f"{_PHASES.get(fleet.phase, fleet.phase.value).format(who)}{again}"


def trouble(fleet: Fleet, event: fw.Failed, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Show a trouble that was not shown yet, and each again after half an hour with its age.

    One call that did not get through is an everyday event, so the first of those is not shown.
    """
    key, told = f"{event.kind}: {event.words}", dict(fleet.told)
    if key in told:
        worth = now.mono_s - told[key] >= TROUBLE_AGAIN_S
    else:
        new_kind = not any(each.startswith(f"{event.kind}: ") for each in told)
        apart = new_kind or now.mono_s - max(told.values(), default=-inf) >= TROUBLES_APART_S
        worth = apart and (event.kind != "unreachable" or fleet.troubles > 1)
    if not worth:
        return fleet, ()
    since_s = now.mono_s - fleet.trouble_s
    age = f" (for {duration(since_s)} now)" if since_s >= TROUBLES_APART_S else ""
    kept = tuple((each, at_s) for each, at_s in fleet.told if each != key)[-20:]
    return fleet.with_(told=(*kept, (key, now.mono_s))), (fw.Say("warning", f"{event.words}{age}", event.hint),)


def warnings(fleet: Fleet, event: fw.Polled, now: Instant) -> tuple[Fleet, tuple[fw.Command, ...]]:
    """Pass on what the supervisor on the machine warned of: each once, whatever its numbers, and after half an hour again."""
    machine = fleet.machine
    if machine is None:
        return fleet, ()
    said = []
    for words in event.warnings:
        key = f"warning: {_NUMBERS.sub('0', words)}"
        told = dict(fleet.told)
        if key in told and now.mono_s - told[key] < TROUBLE_AGAIN_S:
            continue
        said.append(fw.Say("warning", f"on {machine.name or machine.endpoint}: {words}", "see its output: `logs`"))
        fleet = fleet.with_(told=(*((each, at_s) for each, at_s in fleet.told if each != key), (key, now.mono_s)))
    return fleet, tuple(said)


def calmed(fleet: Fleet, now: Instant) -> Fleet:
    """Return the fleet after a call that went well: what was shown some minutes ago may be shown again."""
    recent = tuple(
        (key, at_s)
        for key, at_s in fleet.told
        if now.mono_s - at_s <= (TROUBLE_AGAIN_S if key.startswith("warning: ") else TROUBLE_OVER_S)
    )
    return fleet.with_(told=recent) if len(recent) < len(fleet.told) else fleet


def _cost(fleet: Fleet) -> str:
    if fleet.machine is None:
        return (
            "no machine of this run is up, so it costs nothing"
            if fleet.doing != "BringUp"
            else "a machine may begin to cost"
        )
    if not fleet.policy.paid:
        return "the machine costs no units"
    return f"it costs {fleet.units_per_hour:.2f} units/h" if fleet.units_per_hour else "it costs units"


def _what_to_do(fleet: Fleet) -> str:
    if fleet.machine is None:
        return "it goes on by itself; Ctrl-C ends it, and the same command goes on later"
    return "it goes on by itself; see its output: `logs`; Ctrl-C saves and gives the machine back"


def spoken_state(state: str) -> str:
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
