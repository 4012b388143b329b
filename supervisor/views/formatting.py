"""Text for sizes, numbers and a whole status in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import shell_commands
from supervisor.core.errors import HANDED_OVER
from supervisor.core.humanize import duration
from supervisor.views import durability_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.session.status import RunStatus


def size(count: float) -> str:
    """Return a size in decimal units: "512 B", "7.6 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def state(plain: Mapping[str, Any]) -> str:
    """Return a run's state as a plain word instead of the names used in ``status --json``."""
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


def nan_text(nan: Mapping[str, Any]) -> str:
    """Return the text on a NaN loss. ``nan``: the value of "nan" in ``status --json``."""
    names = ", ".join(nan["names"]) or "the loss"
    return f"{names} {'is' if len(nan['names']) < 2 else 'are'} NaN or infinite since step {nan['since']:,}"


def last_good(nan: Mapping[str, Any], run: str, store: str) -> str:
    """Return the last checkpoint before the NaN and the command to get it.

    ``store``: the option that names the store, or "".
    """
    step = nan["last_good"]
    if step is None:
        known = shell_commands.command_of_run("checkpoints", run, "list", option=store)
        return f"no checkpoint from before that is known: {known}"
    export = shell_commands.command_of_run("checkpoints", run, "export", str(step), "DIR", option=store)
    return f"step {step:,} is the last one before that, and is kept: {export}"


def line(status: RunStatus, now: Instant, width: int | None = None) -> str:
    """Return the progress line: step, rate, loss, time left, safe step, next save, time to the deadline.

    If ``width`` is too small, the least important parts are left out first. The step and the safe step stay.
    """
    rate, left = _rate(status)
    step = _step(status)
    parts = [(0, step), (4, rate), (2, left)]
    parts += [(3 if place == 0 else 6, f"{name} {number(value)}") for place, (name, value) in _metrics(status)]
    room = None if width is None else width - len(f"{step} · ")
    parts.append((0, durability_text.fit(durability_text.of_status(status, now), room)))
    if status.next_save_at_s is not None:
        parts.append((5, f"next save in {duration(max(0.0, status.next_save_at_s - now.mono_s))}"))
    if status.own_saves is not None and not status.asked:
        own = status.own_saves
        parts.append((5, saves_by_itself(max(0.0, now.since(own.last)), own.every_s)))
    if status.deadline_at_s is not None:
        parts.append((1, f"machine ends in {duration(max(0.0, status.deadline_at_s - now.mono_s))}"))
    return fitted([part for part in parts if part[1]], width)


def saves_by_itself(age_s: float | None, every_s: float | None) -> str:
    """Return the text on a script's own saves. Its next save is not predicted, because it takes no requests."""
    last = "" if age_s is None else f": last {duration(age_s)} ago"
    return f"the script saves by itself{last}" + ("" if every_s is None else f", about every {duration(every_s)}")


def _step(status: RunStatus) -> str:
    if status.step is None or (not status.step and status.durable):  # the script does not report these steps
        return status.state.lower()
    total = "" if status.total_steps is None else f"/{status.total_steps:,}"
    share = f" {100 * status.step / status.total_steps:.0f} %" if status.total_steps else ""
    unit = "step" if status.step_s else status.unit  # a loop may count steps while the snapshots have only numbers
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
    """Join the parts that fit into ``width`` columns. Each part has a priority, 0 first."""
    if width is None:
        return " · ".join(words for _, words in parts)
    fitting_parts: list[int] = []
    for place in sorted(range(len(parts)), key=lambda place: parts[place][0]):
        if len(" · ".join(parts[each][1] for each in [*fitting_parts, place])) <= width:
            fitting_parts.append(place)
    return " · ".join(parts[place][1] for place in sorted(fitting_parts))
