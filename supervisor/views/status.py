"""A run's status as a short block of lines, drawn from the values of ``status --json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import shell_commands
from supervisor.core.escape import shown
from supervisor.core.frozen import dataclass
from supervisor.core.humanize import duration
from supervisor.views import durability_text
from supervisor.views.formatting import last_good, nan_text, number, saves_by_itself, state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

METRICS_MAX = 4


@dataclass(frozen=True, slots=True)
class Live:
    """Values beside the status: if a session is live, and the next ``commands`` with their ``store``.

    ``paint`` colours the words for the state.
    """

    live: bool = True
    commands: Sequence[str] = ()
    store: str = ""
    paint: Callable[[str], str] = str


def block(plain: Mapping[str, Any], headline: str, earlier: Sequence[str], live_at: Live) -> list[str]:
    """Return the lines: state, progress, safe step, machine, earlier sessions, next commands."""
    first = f"{shown(plain['run'])}: {live_at.paint(shown(state(plain)))} · {shown(headline)}"
    lines = _indented(progress(plain))
    lines += [*_indented(anomaly_line(plain)), *nan_lines(plain, live_at.store), *safe_lines(plain, live_at)]
    lines += [*_indented(machine_words(plain)), *_indented(_shares(plain))]
    lines += [f"  {words}" for words in earlier]
    return [first, *map(shown, lines), *next_commands(live_at.commands)]


def progress(plain: Mapping[str, Any]) -> str:
    """Return step, rate, time left and metrics in one line; "" before the first step."""
    step, total, rate = plain["step"], plain["total_steps"], plain["steps_per_s"]
    parts = []
    # else a later checkpoint is safe: the steps are not reported
    if step or (step == 0 and not plain["checkpoints"]["durable"]):
        share = f"/{total:,} ({100 * step / total:.0f} %)" if total else ""
        parts.append(f"{plain.get('unit') or 'step'} {step:,}{share}")
    if plain["epoch_of_data"] is not None:
        parts.append(f"epoch {plain['epoch_of_data']:.2f}")
    if rate:
        parts.append(f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.2f} steps/s")  # noqa: PLR2004
    if plain["eta_s"] is not None and step != total:
        parts.append(f"{duration(plain['eta_s'])} left")
    parts += [f"{name} {number(value)}" for name, value in list(plain["metrics"].items())[:METRICS_MAX]]
    return " · ".join(parts)


def anomaly_line(plain: Mapping[str, Any]) -> str:
    """Return the last loss anomaly and the number of rollbacks; "" if there was none."""
    if not plain.get("trouble"):
        return ""
    times = plain["rollbacks"]
    return f"anomaly: {plain['trouble']}" + (f" · rolled back {times} time{'s' * (times > 1)} so far" if times else "")


def nan_lines(plain: Mapping[str, Any], store: str = "") -> list[str]:
    """Return the lines on a NaN loss, and on the last checkpoint before it."""
    notes = plain.get("nan")
    return [f"  {nan_text(notes)}", f"    -> {last_good(notes, plain['run'], store)}"] if notes else []


def safe_lines(plain: Mapping[str, Any], live_at: Live) -> list[str]:
    """Return the safe step, the unconfirmed step, the reason and the remedy."""
    durability = durability_text.of_plain(plain, live=live_at.live)
    lines = [f"  {safe(plain, live=live_at.live)}"]
    waiting = (
        durability_text.unconfirmed_text(durability)
        if durability.live
        else durability_text.unconfirmed_place(durability)
    )
    if waiting:
        lines += [
            f"  {waiting}{durability_text.store_reason(durability)}",
            f"    -> {durability_text.remedy(durability, plain['run'], live_at.store)}",
        ]
    return lines


def safe(plain: Mapping[str, Any], *, live: bool = True) -> str:
    """Return one line on the safe and the pending step."""
    durability = durability_text.of_plain(plain, live=live)
    if (
        not live
        and plain["epoch"]
        and durability.durable is None
        and durability.pending is None
        and plain["state"] != "SUCCEEDED"
    ):
        return "nothing safe: the next start begins at step 0"
    if durability.pending is None or not live or durability_text.unconfirmed_text(durability):
        return durability_text.safe(durability)
    how = "written but not safe yet" if durability.written else "on that machine's disk"
    return f"{durability_text.safe(durability)} ({durability.unit} {durability.pending:,} {how})"


def next_commands(commands: Sequence[str]) -> list[str]:
    """Return the last lines of every verb."""
    return [f"  next: {shell_commands.called_as()} {command}" for command in commands]


def machine_words(plain: Mapping[str, Any]) -> str:
    """Return the time of the next save, the expected end of this machine, and its device."""
    parts = []
    if plain["next_save_in_s"] is not None:
        parts.append(f"next save in {duration(plain['next_save_in_s'])}")
    if own := plain.get("own_saves"):
        parts.append(saves_by_itself(own["last_age_s"], own["every_s"]))
    if plain["deadline_in_s"] is not None:
        parts.append(f"machine ends in {duration(plain['deadline_in_s'])}")
    if plain["device"]:
        parts.append(f"on {plain['device']}")
    return " · ".join(parts)


def _shares(plain: Mapping[str, Any]) -> str:
    if plain["goodput"] is None:
        return ""
    lost = sorted(((seconds, name) for name, seconds in plain["badput"].items() if seconds >= 1), reverse=True)
    worst = f"; most of the rest: {lost[0][1]} ({duration(lost[0][0])})" if lost else ""
    return f"goodput {100 * plain['goodput']:.0f} % (of the time: training that counts){worst}"


def _indented(line: str) -> list[str]:
    return [f"  {line}"] if line else []
