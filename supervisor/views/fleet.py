"""Output of `launch`: the serving machine, the run's progress, the step safe on this computer, and a table at the end."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import shell_commands
from supervisor.core.escape import shown
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.state import GIVEN_BACK, LEFT
from supervisor.core.fleet.waiting import spent, state_text
from supervisor.core.humanize import duration
from supervisor.core.wire.journal_codec import to_plain
from supervisor.views import table
from supervisor.views.async_stream import Lines
from supervisor.views.bottom import Bottom
from supervisor.views.formatting import fitted, last_good, nan_text
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

    from supervisor.core.clock import Instant
    from supervisor.core.fleet.state import Fleet, FleetPolicy, MachineService

NAME = "[fleet] "
INDENT = " " * len(NAME)
PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 1.0
_END_WORDS = {GIVEN_BACK: "released"}  # the journal keeps the old word


class FleetScreen(Protocol):
    """Shows a fleet; no call waits for its reader."""

    def started(self, fleet: Fleet) -> None: ...
    def notify(self, notification: fw.Report) -> None: ...
    def update(self, fleet: Fleet, event: fw.Event, now: Instant) -> None: ...
    def close(self) -> None: ...


def choose(place: str, policy: FleetPolicy, *, json_lines: bool, out: TextIO | None = None) -> FleetScreen:
    """Return JSON lines if requested, else text: one line redrawn on a terminal, plain lines elsewhere."""
    out = out or sys.stdout
    lines = Lines(out)
    if json_lines:
        return FleetJsonScreen(lines)
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return FleetTextScreen(lines, place, policy)
    return FleetTextScreen(lines, place, policy, Bottom(lines, lambda: columns_of(out), colours=has_colours(out)))


class FleetTextScreen:
    """Text; progress every second on a terminal (``bottom``), else every half minute."""

    def __init__(self, out: Lines, place: str, policy: FleetPolicy, bottom: Bottom | None = None) -> None:
        self._out, self._place, self._policy, self._bottom = out, place, policy, bottom
        self._shown_s = 0.0
        self._trouble = ""

    def started(self, fleet: Fleet) -> None:
        """Print the limits of the machines, and the state left by earlier controllers."""
        policy = self._policy
        machines_text = (
            "one machine at a time for this account" if policy.paid else "one machine at a time for this run"
        )
        bounds = [f"{machines_text}, at most {policy.machines_max} in this launch, {policy.machines_per_day_max} a day"]
        bounds += ["only with a positive balance of units"] if policy.paid else []
        bounds += [f"at most {policy.units_max:g} units"] if policy.units_max is not None else []
        self._write(f"machines on {self._place}: {', '.join(bounds)}; no keep-alive")
        if fleet.machine is not None:
            self._write(f"an earlier launch left {shown(fleet.machine.endpoint)}: looking after it")

    def notify(self, notification: fw.Report) -> None:
        """Print the message, and its hint below."""
        mark = "" if notification.level == "info" else f"{notification.level}: "
        self._write(
            f"{mark}{shown(notification.message)}",
            shown(shell_commands.expanded(notification.hint)),
            notification.level,
        )

    def update(self, fleet: Fleet, event: fw.Event, now: Instant) -> None:
        """Print the line when it is due."""
        if not isinstance(event, fw.MachinePolled):
            return
        if event.error and event.error != self._trouble:
            self._write(f"warning: {shown(event.error)}", level="warning")
        self._trouble = event.error
        every_s = LIVE_EVERY_S if self._bottom else PLAIN_EVERY_S
        if now.mono_s - self._shown_s < every_s:
            return
        self._shown_s = now.mono_s
        if self._bottom is None:
            self._out.write(f"{shown(line(fleet, event, now))}\n")
        else:
            self._bottom.draw(shown(line(fleet, event, now, self._bottom.room())), YELLOW if event.error else GREEN)

    def close(self) -> None:
        """Leave the last state of the line on the screen, and wait a short time until everything is shown."""
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
        self._bottom.print_above(f"{self._bottom.painted(NAME + words, colour)}{below}")


class FleetJsonScreen:
    """Events as JSON lines."""

    def __init__(self, out: Lines) -> None:
        self._out = out

    def started(self, fleet: Fleet) -> None:
        """Print nothing: no event has happened yet."""

    def notify(self, notification: fw.Report) -> None:
        """Print the event."""
        self._print(notification)

    def update(self, _fleet: Fleet, event: fw.Event, _now: Instant) -> None:
        """Print it."""
        if not isinstance(event, fw.PollTimerFired):
            self._print(event)

    def close(self) -> None:
        """Wait a short time until everything is shown."""
        self._out.close()

    def _print(self, value: Any) -> None:
        self._out.write(json.dumps(to_plain(value), default=str) + "\n")


def line(fleet: Fleet, event: fw.MachinePolled, now: Instant, width: int | None = None) -> str:
    """Return the line: machine, progress, safe step on this computer.

    If ``width`` is too small, the least important parts are left out. The step and the safe step stay.
    """
    lived = "" if fleet.service is None else f", up {duration(now.wall_s - fleet.service.began_wall_s)}"
    where = fleet.machine.name or fleet.machine.endpoint if fleet.machine else "no machine"
    number = len(fleet.machine_history) - fleet.earlier_machines + 1
    machine = f"machine {number} ({where}{lived})"
    if width is not None and len(machine) > width // 3:
        machine = f"machine {number}"
    step, *others = (event.status_line or event.phase or "starting").split(" · ")
    if event.trained or event.phase == fw.HANDING_OVER:
        done = "all steps are done" if event.trained else "the run has ended there"
        others = [f"{done}, {event.files_waiting} file{'s' if event.files_waiting != 1 else ''} to fetch"]
    parts = [(2, machine), (0, step), *((4 + place, words) for place, words in enumerate(others)), (1, safe(fleet))]
    parts += [(3, words)] if (words := spent(fleet, now)) else []
    return f"{NAME}{fitted(parts, None if width is None else width - len(NAME))}"


def safe(fleet: Fleet) -> str:
    """Return the text on the step that is safe on this computer."""
    return "nothing safe yet" if fleet.durable_step is None else f"safe on this computer: step {fleet.durable_step:,}"


def print_summary(
    end: fw.EndController, fleet: Fleet, name: str, store: str, *, json_lines: bool, begun: bool = True,
    nan: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Print the end, each machine's progress and cost, and the next commands.

    Args:
        end: the end of the launch.
        fleet: the fleet's state.
        name: the run.
        store: the option that names the store, or "".
        json_lines: print JSON.
        begun: the run is in the store, so that other commands find it.
        nan: state of a NaN loss as in ``status --json``, or None.
    """
    if json_lines:
        print(json.dumps(to_plain(end)), flush=True)
        return
    if end.state not in {"SUCCEEDED", "CANCELLED", "PENDING", LEFT}:
        show_error(shown(end.message), shown(end.hint) or "launch again")
    lines = [] if not fleet.machine_history[fleet.earlier_machines :] else [*machines(fleet)]
    state = painted_state(state_text(end.state), sys.stdout)
    lines.append(f"{NAME}{state}: {end.message} · {safe(fleet)} · exit code {end.exit_code}")
    if end.state in {LEFT, "PENDING"} and end.hint:
        lines.append(f"{INDENT}{shell_commands.expanded(end.hint)}")
    lines += _next(end, name, store, nan) if begun else []
    show("\n".join(lines))


def _next(end: fw.EndController, name: str, store: str, nan: Mapping[str, Any] | None) -> list[str]:
    """Return the next commands.

    A run with a NaN loss is not exported from its newest checkpoint, which holds the NaN.
    """
    finished = end.state == "SUCCEEDED"
    words = ("checkpoints", name, "export", "latest", "DIR") if finished else ("status", name)
    lines = [] if finished and nan is not None else [f"{INDENT}{shell_commands.command_of_run(*words, option=store)}"]
    return [
        *lines,
        *([] if nan is None else [f"{INDENT}{nan_text(nan)}", f"{INDENT}-> {last_good(nan, name, store)}"]),
    ]


def machines(fleet: Fleet) -> list[str]:
    """Return a table with each machine of this launch: its time, its progress and its end."""
    history = fleet.machine_history[fleet.earlier_machines :]
    rows = [
        [
            life.machine.name or life.machine.endpoint,
            _lived(life),
            _first(life),
            _reached(life),
            _END_WORDS.get(life.end, life.end),
        ]
        for life in history
    ]
    total_s = sum((life.ended_wall_s or life.began_wall_s) - life.began_wall_s for life in history)
    units = f", {fleet.units_used:.2f} units used, {fleet.units:,.2f} left" if fleet.units is not None else ""
    head = ["machine", "was there", "first new step after", "safe here", "end"]
    return [
        *(f"{INDENT}{each}" for each in table.rows(head, rows)),
        f"{INDENT}{len(history)} machine{'s' if len(history) != 1 else ''}, {total_s:,.0f} machine seconds{units}",
        *(f"{INDENT}{words}" for before, life in pairwise(history) if (words := startup_breakdown(before, life))),
    ]


def startup_breakdown(before: MachineService, life: MachineService) -> str:
    """Return the durations between one machine's last status and the next machine's first new step."""
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


def _lived(life: MachineService) -> str:
    return duration((life.ended_wall_s or life.began_wall_s) - life.began_wall_s)


def _first(life: MachineService) -> str:
    return "-" if life.first_step_wall_s is None else duration(life.first_step_wall_s - life.began_wall_s)


def _reached(life: MachineService) -> str:
    first, last = life.durable_from, life.durable_step
    return "-" if last is None else f"step {first or 0:,} to {last:,}"
