"""From the lives of a row to the numbers of the table; hours and minutes are those of the trace, seconds of starts are real."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.lives import OURS, ledger
from benchmarks.lives.job import EPOCH_STEPS
from supervisor import wiring
from supervisor.core.ports import Traits
from supervisor.stores import mounted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.lives import Row
    from benchmarks.lives.serving import Served, Trace

HOUR_S = 3600.0


def row_result(row: Row, served: Served, truth: Mapping[int, str], trace: Trace) -> dict[str, Any]:
    """Return a row as JSON values."""
    if not any(len(life.lines) > 1 for life in served.lives):
        return {"row": row.name, "error": "no machine got to a second step; see what its script said"}
    saved = {step - 1 for step in served.arrivals_s} or None
    got = ledger.reckon(served.lives, truth, (lambda step: step in saved) if saved else _ends_epoch)
    factor = HOUR_S / trace.hour_s
    lived_s = sum(trace.lives_h) * HOUR_S
    lost_s = [steps * got.step_s * factor for steps in got.lost]
    found: dict[str, Any] = {
        "row": row.name,
        "goodput": got.kept * got.step_s * factor / lived_s,
        "kept_steps": got.kept,
        "step_s": got.step_s,
        "save_s": got.save_s,
        "interval_s": EPOCH_STEPS * got.step_s,
        "lost_steps": got.lost,
        "lost_min_mean": statistics.mean(lost_s) / 60 if lost_s else None,
        "lost_min_worst": max(lost_s) / 60 if lost_s else None,
        "wrong": got.wrong,
        "failed": got.failed,
        "starts_s": got.starts_s,
        "start_s": statistics.mean(got.starts_s),
        "halves": served.halves,
    }
    if row.name.startswith(OURS):
        found |= _ours(found, served, trace)
    return found


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row its ratio to ours."""
    ours = next((row["goodput"] for row in rows if row["row"] == OURS and "error" not in row), None)
    return [row | {"to_ours": row["goodput"] / ours if ours and "error" not in row else None} for row in rows]


def _ours(found: Mapping[str, Any], served: Served, trace: Trace) -> dict[str, Any]:
    """Return what the formula allows at the measured costs, and how much of it was reached."""
    steps = sorted(served.arrivals_s)
    spacing = [
        (after - before) * found["step_s"]
        for before, after in itertools.pairwise(steps)
        if 0 < after - before < 10 * EPOCH_STEPS
    ]
    every_s = statistics.mean(spacing) if spacing else found["interval_s"]
    upload_s = statistics.mean(served.arrivals_s.values()) if served.arrivals_s else 0.0
    life_h = statistics.mean(trace.lives_h)
    loss_s = every_s / 2 + upload_s
    allowed = ledger.allowed(
        every_s, found["save_s"], loss_s, life_h * trace.hour_s, found["start_s"] * trace.hour_s / HOUR_S
    )
    per_min = HOUR_S / trace.hour_s / 60
    return {
        "interval_s": every_s, "upload_s": upload_s, "allowed": allowed, "reached": found["goodput"] / allowed,
        "loss_min_allowed": loss_s * per_min, "waits_s": served.waits_s,
        "answer_s": wiring.answer_within_s(Traits(settle_s=mounted.SETTLE_S)),
    }  # fmt: skip


def _ends_epoch(step: int) -> bool:
    return (step + 1) % EPOCH_STEPS == 0
