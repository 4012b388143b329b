"""A run's status as a short block of lines, drawn from the same values that ``status --json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import program
from supervisor.core.shown import shown
from supervisor.core.spoken import duration
from supervisor.core.values import dataclass
from supervisor.views import safety
from supervisor.views.words import last_good, nan_since, number, saves_by_itself, state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

METRICS_MAX = 4


@dataclass(frozen=True, slots=True)
class Live:
    """What the status alone does not tell: whether a session is at it, and the next ``commands`` with their ``store``.

    ``paint``: how the words for the state get their colour.
    """

    live: bool = True
    commands: Sequence[str] = ()
    store: str = ""
    paint: Callable[[str], str] = str


def block(plain: Mapping[str, Any], headline: str, earlier: Sequence[str], live_at: Live) -> list[str]:
    """Return the lines: state, progress, what is safe, the machine, how earlier ones ended, what to do next."""
    first = f"{shown(plain['run'])}: {live_at.paint(shown(state(plain)))} · {shown(headline)}"
    lines = _indented(progress(plain))
    lines += [*_indented(trouble(plain)), *nan_lines(plain, live_at.store), *safe_lines(plain, live_at)]
    lines += [*_indented(machine_words(plain)), *_indented(_shares(plain))]
    lines += [f"  {words}" for words in earlier]
    return [first, *map(shown, lines), *next_commands(live_at.commands)]


def progress(plain: Mapping[str, Any]) -> str:
    """Return step, rate, time left and metrics in one line; "" before the first step."""
    step, total, rate = plain["step"], plain["total_steps"], plain["steps_per_s"]
    parts = []
    if step or (step == 0 and not plain["checkpoints"]["durable"]):  # else it is safe beyond: nobody tells the steps
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


def trouble(plain: Mapping[str, Any]) -> str:
    """Return how training itself went wrong last, and how often it was gone back from that; "" if it never did."""
    if not plain.get("trouble"):
        return ""
    times = plain["rollbacks"]
    return f"went wrong: {plain['trouble']}" + (f" · gone back {times} time{'s' * (times > 1)} so far" if times else "")


def nan_lines(plain: Mapping[str, Any], store: str = "") -> list[str]:
    """Return that a watched value is no number now, and how to get the last checkpoint from before."""
    told = plain.get("nan")
    return [f"  {nan_since(told)}", f"    -> {last_good(told, plain['run'], store)}"] if told else []


def safe_lines(plain: Mapping[str, Any], live_at: Live) -> list[str]:
    """Return what is safe, what is not, why, and what to do about it."""
    seen = safety.of_plain(plain, live=live_at.live)
    lines = [f"  {safe(plain, live=live_at.live)}"]
    waiting = safety.waiting(seen) if seen.live else safety.lying(seen)
    if waiting:
        lines += [
            f"  {waiting}{safety.because(seen)}",
            f"    -> {safety.what_to_do(seen, plain['run'], live_at.store)}",
        ]
    return lines


def safe(plain: Mapping[str, Any], *, live: bool = True) -> str:
    """Say in one line what is safe, and what is on its way."""
    seen = safety.of_plain(plain, live=live)
    if not live and plain["epoch"] and seen.durable is None and seen.pending is None and plain["state"] != "SUCCEEDED":
        return "nothing safe: the next start begins at step 0"
    if seen.pending is None or not live or safety.waiting(seen):
        return safety.safe(seen)
    how = "written but not safe yet" if seen.written else "on that machine's disk"
    return f"{safety.safe(seen)} ({seen.unit} {seen.pending:,} {how})"


def next_commands(commands: Sequence[str]) -> list[str]:
    """Return the lines that every verb ends with."""
    return [f"  next: {program.called_as()} {command}" for command in commands]


def machine_words(plain: Mapping[str, Any]) -> str:
    """Return when it saves next, when this machine is expected to end, and what it computes on."""
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
