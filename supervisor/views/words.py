"""How sizes, numbers and a whole status read in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import program
from supervisor.core.errors import HANDED_OVER
from supervisor.core.spoken import duration
from supervisor.views import safety

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus


def size(count: float) -> str:
    """Return a size in decimal units: "512 B", "7.6 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def state(plain: Mapping[str, Any]) -> str:
    """Return a run's state in plain words: those of programs (``status --json``) stay out of sight where they mislead."""
    named = str(plain["state"])
    if named == "PENDING" and not plain.get("epoch"):
        return "NOT STARTED"
    if named == "PENDING":
        return "WAITING FOR A MACHINE" if plain.get("exit_code") == HANDED_OVER else "INTERRUPTED"
    began = bool(plain.get("step")) or plain["checkpoints"]["durable"] is not None
    return {
        "FAILED_SETUP": "FAILED" if began else "COULD NOT START",
        "FAILED_PRECHECKS": "FAILED" if began else "COULD NOT START",
        "FAILED_CONTROLLER": "FAILED (the supervisor)",
    }.get(named, named)


def number(value: object) -> str:
    """Return a metric's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def nan_since(told: Mapping[str, Any]) -> str:
    """Say since when a watched value is no number. ``told``: as ``status --json`` prints it under "nan"."""
    names = ", ".join(told["names"]) or "the loss"
    return f"{names} {'is' if len(told['names']) < 2 else 'are'} no number since step {told['since']:,}"


def last_good(told: Mapping[str, Any], run: str, store: str) -> str:
    """Say which checkpoint is the last from before, and how to get it. ``store``: the option that names the store, or ""."""
    step = told["last_good"]
    if step is None:
        known = program.command_of_run("checkpoints", run, "list", option=store)
        return f"no checkpoint from before that is known: {known}"
    export = program.command_of_run("checkpoints", run, "export", str(step), "DIR", option=store)
    return f"step {step:,} is the last one before that, and is kept: {export}"


def line(status: RunStatus, now: Instant, width: int | None = None) -> str:
    """Return the progress line: step, rate, loss, time left, what is safe, next save, time to the deadline.

    Where ``width`` columns do not hold all of it, what matters least is left out first; the step and what is safe stay.
    """
    rate, left = _rate(status)
    step = _step(status)
    parts = [(0, step), (4, rate), (2, left)]
    parts += [(3 if place == 0 else 6, f"{name} {number(value)}") for place, (name, value) in _metrics(status)]
    room = None if width is None else width - len(f"{step} · ")
    parts.append((0, safety.fitting(safety.of_status(status, now), room)))
    if status.next_save_at_s is not None:
        parts.append((5, f"next save in {duration(max(0.0, status.next_save_at_s - now.mono_s))}"))
    if status.own_saves is not None and not status.asked:
        own = status.own_saves
        parts.append((5, saves_by_itself(max(0.0, now.since(own.last)), own.every_s)))
    if status.deadline_at_s is not None:
        parts.append((1, f"machine ends in {duration(max(0.0, status.deadline_at_s - now.mono_s))}"))
    return fitted([part for part in parts if part[1]], width)


def saves_by_itself(age_s: float | None, every_s: float | None) -> str:
    """Say how a script saves that nobody can ask for it: no time of its next save is promised."""
    last = "" if age_s is None else f": last {duration(age_s)} ago"
    return f"the script saves by itself{last}" + ("" if every_s is None else f", about every {duration(every_s)}")


def _step(status: RunStatus) -> str:
    if status.step is None or (not status.step and status.durable):  # of these steps nobody tells
        return status.state.lower()
    total = "" if status.total_steps is None else f"/{status.total_steps:,}"
    share = f" {100 * status.step / status.total_steps:.0f} %" if status.total_steps else ""
    unit = "step" if status.step_s else status.unit  # a loop may count while the snapshots beside it are numbered only
    return f"{unit} {status.step:,}{total}{share}"


def _rate(status: RunStatus) -> tuple[str, str]:
    if not status.step_s:
        return "", ""
    rate = 1 / status.step_s
    words = f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.2f} steps/s"
    if status.total_steps is None or status.step is None or status.step >= status.total_steps:
        return words, ""
    return words, f"{duration((status.total_steps - status.step) * status.step_s)} left"


def _metrics(status: RunStatus) -> Iterable[tuple[int, tuple[str, object]]]:
    return enumerate(list(status.metrics.items())[:3])


def fitted(parts: Sequence[tuple[int, str]], width: int | None) -> str:
    """Join the parts that ``width`` columns hold; each stands with its place in the order of what matters, 0 first."""
    if width is None:
        return " · ".join(words for _, words in parts)
    kept: list[int] = []
    for place in sorted(range(len(parts)), key=lambda place: parts[place][0]):
        if len(" · ".join(parts[each][1] for each in [*kept, place])) <= width:
            kept.append(place)
    return " · ".join(parts[place][1] for place in sorted(kept))
