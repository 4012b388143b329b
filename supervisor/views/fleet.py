"""What `launch` shows: which machine serves, how far the run is, what is safe on this computer; and at the end what each brought."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import fleet_words as fw
from supervisor.core import program
from supervisor.core.codec import to_plain
from supervisor.core.fleet_state import LEFT
from supervisor.core.fleet_waiting import spent, spoken_state
from supervisor.core.shown import shown
from supervisor.core.spoken import duration
from supervisor.views import table
from supervisor.views.bottom import Bottom
from supervisor.views.lines import Lines
from supervisor.views.words import fitted, last_good, nan_since
from supervisor.views.wrapping import (
    CYAN,
    DIM,
    GREEN,
    RED,
    YELLOW,
    columns_of,
    has_colours,
    painted_state,
    show,
    show_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from supervisor.core.fleet_state import Fleet, Life, Policy
    from supervisor.core.instant import Instant

NAME = "[fleet] "
INDENT = " " * len(NAME)
PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 1.0


class Screen(Protocol):
    """Shows a fleet to somebody; no call waits for them."""

    def begins(self, fleet: Fleet) -> None: ...
    def said(self, said: fw.Say) -> None: ...
    def seen(self, fleet: Fleet, event: fw.Event, now: Instant) -> None: ...
    def close(self) -> None: ...


def choose(place: str, policy: Policy, *, json_lines: bool, out: TextIO | None = None) -> Screen:
    """Return JSON lines where asked for, else words: one line that is rewritten on a terminal, plain lines elsewhere."""
    out = out or sys.stdout
    lines = Lines(out)
    if json_lines:
        return JsonScreen(lines)
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return WordScreen(lines, place, policy)
    return WordScreen(lines, place, policy, Bottom(lines, lambda: columns_of(out), colours=has_colours(out)))


class WordScreen:
    """Words; progress every second on a terminal (``bottom``), else every half minute."""

    def __init__(self, out: Lines, place: str, policy: Policy, bottom: Bottom | None = None) -> None:
        self._out, self._place, self._policy, self._bottom = out, place, policy, bottom
        self._shown_s = 0.0
        self._trouble = ""

    def begins(self, fleet: Fleet) -> None:
        """Say what holds for the machines, and what earlier controllers left."""
        policy = self._policy
        whose = "one machine at a time for this account" if policy.paid else "one machine at a time for this run"
        bounds = [f"{whose}, at most {policy.machines_max} in this launch, {policy.a_day} a day"]
        bounds += ["only with a positive balance of units"] if policy.paid else []
        bounds += [f"at most {policy.units_max:g} units"] if policy.units_max is not None else []
        self._write(f"machines on {self._place}: {', '.join(bounds)}; no keep-alive")
        if fleet.machine is not None:
            self._write(f"an earlier launch left {shown(fleet.machine.endpoint)}: looking after it")

    def said(self, said: fw.Say) -> None:
        """Print the words, and under them what to do."""
        mark = "" if said.level == "info" else f"{said.level}: "
        self._write(f"{mark}{shown(said.words)}", shown(program.expanded(said.hint)), said.level)

    def seen(self, fleet: Fleet, event: fw.Event, now: Instant) -> None:
        """Print the line when it is time."""
        if not isinstance(event, fw.Polled):
            return
        if event.trouble and event.trouble != self._trouble:
            self._write(f"warning: {shown(event.trouble)}", level="warning")
        self._trouble = event.trouble
        every_s = LIVE_EVERY_S if self._bottom else PLAIN_EVERY_S
        if now.mono_s - self._shown_s < every_s:
            return
        self._shown_s = now.mono_s
        if self._bottom is None:
            self._out.write(f"{shown(line(fleet, event, now))}\n")
        else:
            self._bottom.draw(shown(line(fleet, event, now, self._bottom.room())), YELLOW if event.trouble else GREEN)

    def close(self) -> None:
        """Leave the last state of the line on the screen, and wait a moment until everything is shown."""
        if self._bottom is not None:
            self._bottom.close()
        else:
            self._out.close()

    def _write(self, words: str, hint: str = "", level: str = "info") -> None:
        if self._bottom is None:
            self._out.write(f"{NAME}{words}\n" + (f"{INDENT}{hint}\n" if hint else ""))
            return
        below = f"\n{self._bottom.painted(INDENT + hint, DIM)}" if hint else ""
        colour = {"info": CYAN, "warning": YELLOW}.get(level, RED)
        self._bottom.above(f"{self._bottom.painted(NAME + words, colour)}{below}")


class JsonScreen:
    """Events as JSON lines."""

    def __init__(self, out: Lines) -> None:
        self._out = out

    def begins(self, fleet: Fleet) -> None:
        """Nothing has happened yet."""

    def said(self, said: fw.Say) -> None:
        """Print it."""
        self._print(said)

    def seen(self, _fleet: Fleet, event: fw.Event, _now: Instant) -> None:
        """Print it."""
        if not isinstance(event, fw.Woke):
            self._print(event)

    def close(self) -> None:
        """Wait a moment until everything is shown."""
        self._out.close()

    def _print(self, value: Any) -> None:
        self._out.write(json.dumps(to_plain(value), default=str) + "\n")


def line(fleet: Fleet, event: fw.Polled, now: Instant, width: int | None = None) -> str:
    """Return how it goes: machine, its progress, what is safe here.

    Where ``width`` columns do not hold all of it, what matters least is left out; step and what is safe stay.
    """
    lived = "" if fleet.life is None else f", up {duration(now.wall_s - fleet.life.began_wall_s)}"
    where = fleet.machine.name or fleet.machine.endpoint if fleet.machine else "no machine"
    number = len(fleet.lives) - fleet.lives_before + 1
    machine = f"machine {number} ({where}{lived})"
    if width is not None and len(machine) > width // 3:
        machine = f"machine {number}"
    step, *others = (event.line or event.phase or "starting").split(" · ")
    if event.trained or event.phase == fw.HANDING_OVER:
        done = "all steps are done" if event.trained else "the run has ended there"
        others = [f"{done}, {event.waiting} file{'s' if event.waiting != 1 else ''} to fetch"]
    parts = [(2, machine), (0, step), *((4 + place, words) for place, words in enumerate(others)), (1, safe(fleet))]
    parts += [(3, words)] if (words := spent(fleet, now)) else []
    return f"{NAME}{fitted(parts, None if width is None else width - len(NAME))}"


def safe(fleet: Fleet) -> str:
    """Return what this computer holds."""
    return "nothing safe yet" if fleet.safe is None else f"safe on this computer: step {fleet.safe:,}"


def say_goodbye(
    end: fw.End, fleet: Fleet, name: str, store: str, *, json_lines: bool, begun: bool = True,
    nan: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Print how it ended, what each machine brought and cost, and what comes next.

    ``store``: the option that names it; ``begun``: the run is in it, so that other commands find it; ``nan``: since when its
    loss is no number, as ``status --json`` prints it.
    """
    if json_lines:
        print(json.dumps(to_plain(end)), flush=True)
        return
    if end.state not in {"SUCCEEDED", "CANCELLED", "PENDING", LEFT}:
        show_error(shown(end.words), shown(end.hint) or "launch again")
    lines = [] if not fleet.lives[fleet.lives_before :] else [*machines(fleet)]
    state = painted_state(spoken_state(end.state), sys.stdout)
    lines.append(f"{NAME}{state}: {end.words} · {safe(fleet)} · exit code {end.exit_code}")
    if end.state in {LEFT, "PENDING"} and end.hint:
        lines.append(f"{INDENT}{program.expanded(end.hint)}")
    lines += _next(end, name, store, nan) if begun else []
    show("\n".join(lines))


def _next(end: fw.End, name: str, store: str, nan: Mapping[str, Any] | None) -> list[str]:
    """Return what comes next. A run whose loss is no number is not exported from its newest checkpoint, which holds that."""
    finished = end.state == "SUCCEEDED"
    words = ("checkpoints", name, "export", "latest", "DIR") if finished else ("status", name)
    lines = [] if finished and nan is not None else [f"{INDENT}{program.command_of_run(*words, option=store)}"]
    return [
        *lines,
        *([] if nan is None else [f"{INDENT}{nan_since(nan)}", f"{INDENT}-> {last_good(nan, name, store)}"]),
    ]


def machines(fleet: Fleet) -> list[str]:
    """Return a table: each machine of this launch, how long it was there, how far it came, how it ended."""
    lives = fleet.lives[fleet.lives_before :]
    rows = [
        [life.machine.name or life.machine.endpoint, _lived(life), _first(life), _reached(life), life.end]
        for life in lives
    ]
    total_s = sum((life.ended_wall_s or life.began_wall_s) - life.began_wall_s for life in lives)
    units = f", {fleet.units_used:.2f} units used, {fleet.units:,.2f} left" if fleet.units is not None else ""
    head = ["machine", "was there", "first new step after", "safe here", "end"]
    return [
        *(f"{INDENT}{each}" for each in table.rows(head, rows)),
        f"{INDENT}{len(lives)} machine{'s' if len(lives) != 1 else ''}, {total_s:,.0f} machine seconds{units}",
        *(f"{INDENT}{words}" for before, life in pairwise(lives) if (words := way(before, life))),
    ]


def way(before: Life, life: Life) -> str:
    """Return how long it took from the last status of one machine to the first new step of the next, part by part."""
    first_s, heard_s = life.first_step_wall_s, before.heard_wall_s or before.ended_wall_s
    if first_s is None or heard_s is None:
        return ""
    ends = {
        "loss noticed": before.ended_wall_s, "next machine asked for": life.asked_wall_s, "machine up": life.began_wall_s,
        "code and checkpoint sent": life.prepared_wall_s, "agent started": life.agent_wall_s, "first step": first_s,
    }  # fmt: skip
    parts, at_s = [], heard_s
    for name, end_s in ends.items():
        if end_s is not None:
            parts.append(f"{name} {duration(max(0.0, end_s - at_s))}")
            at_s = end_s
    who = life.machine.name or life.machine.endpoint
    whole = duration(first_s - heard_s)
    return f"from the last status of the machine before to the first step of {who}: {whole} ({', '.join(parts)})"


def _lived(life: Life) -> str:
    return duration((life.ended_wall_s or life.began_wall_s) - life.began_wall_s)


def _first(life: Life) -> str:
    return "-" if life.first_step_wall_s is None else duration(life.first_step_wall_s - life.began_wall_s)


def _reached(life: Life) -> str:
    first, last = life.safe_from, life.safe
    return "-" if last is None else f"step {first or 0:,} to {last:,}"
