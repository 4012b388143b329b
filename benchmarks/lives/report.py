"""The table as people read it, what it rests on, and how ours stands against what the formula allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.lives import OURS
from benchmarks.measuring.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD = (
    "row", "goodput", "to ours", "lost per death, min (worst)", "wrong resumes", "failed resumes",
    "start to first new step, s", "a save holds up, ms", "interval, min",
)  # fmt: skip
REACHED_MIN = 0.98


def report(result: Mapping[str, Any], *, padded: bool) -> str:
    """Return the whole run as Markdown."""
    rows, mean_h = result["rows"], sum(result["lives_h"]) / len(result["lives_h"])
    lines = [
        *_where(result),
        "",
        *table(HEAD, [_cells(row, result) for row in rows if "error" not in row], padded=padded),
    ]
    lines += [f"- {row['row']}: not measured: {row['error']}" for row in rows if "error" in row]
    lines += ["", *(line for row in rows if "allowed" in row for line in _verdicts(row, rows, mean_h))]
    return "\n".join(lines)


def _where(result: Mapping[str, Any]) -> list[str]:
    hour_s, lives_h = result["hour_s"], result["lives_h"]
    factor = 3600 / hour_s
    lives = ", ".join(f"{life:.2f}" for life in lives_h)
    state_mb = result["state_bytes"] / 1e6
    return [
        (
            f"{len(lives_h)} deaths, seed {result['seed']}: machines live {lives} h (log-uniform, 20 min to 12 h; mean "
            f"{sum(lives_h) / len(lives_h):.2f} h). Scale: 1 h = {hour_s:g} s, everything after a start runs {factor:,.0f} "
            f"times as fast; seconds of starts are real and count as such in the lives."
        ),
        (
            f"A step is {result['step_s'] * 1000:g} ms ({result['step_s'] * factor:.0f} s of the trace), an epoch "
            f"{result['epoch_steps']} steps ({result['epoch_steps'] * result['step_s'] * factor / 60:.0f} min), the interval of all "
            f"rows but the first. State {state_mb:.1f} MB, upload at most {result['upload_mb_s']:g} MB/s after the first 4 MB (rclone's "
            f"burst): for its time like {state_mb * factor / 1000:.1f} GB, which makes the pauses of all savers look large."
        ),
        (
            "rclone's far side is shown as Google's: a file whose upload was cut off is there in its last whole version or not at "
            "all. A start that fails is tried again at once with the newest checkpoint taken away; no time is counted for the "
            f"person. {result['together']} rows ran at the same time, each on a drive and machines of its own."
        ),
        (
            "Ours is started with --takeover, as by somebody whose last machine is gone; its waits (settle, proofs) are divided "
            "by the scale, and the settle time of a Drive is counted in full in its starts. Peers: torch.save keeps 3 and loads "
            'the newest that loads; Lightning save_last with ckpt_path="last"; Keras double_checkpoint; HF save_total_limit 3.'
        ),
    ]


def _cells(row: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    per_min = 60 / result["hour_s"]
    lost = "–" if row["lost_min_mean"] is None else f"{row['lost_min_mean']:.1f} ({row['lost_min_worst']:.1f})"
    return [
        f"**{row['row']}**" if row["row"].startswith(OURS) else row["row"], f"{100 * row['goodput']:.1f} %",
        "–" if row["to_ours"] is None else f"{row['to_ours']:.3f}", lost, str(row["wrong"]), str(row["failed"]),
        f"{row['start_s']:.1f}", f"{1000 * row['save_s']:.0f}", f"{row['interval_s'] * per_min:.1f}",
    ]  # fmt: skip


def _verdicts(row: Mapping[str, Any], rows: list[Mapping[str, Any]], mean_h: float) -> list[str]:
    best = max(
        (each["goodput"] for each in rows if "error" not in each and not each["row"].startswith(OURS)), default=None
    )
    met = {True: "met", False: "MISSED"}
    lost = row["lost_min_mean"]
    lines = [
        (
            f"- {row['row']}: the formula allows {100 * row['allowed']:.1f} % (an interval of {row['interval_s']:.2f} s, a save "
            f"that holds up {1000 * row['save_s']:.1f} ms, {row['upload_s']:.2f} s until it can be restored elsewhere, starts of "
            f"{row['start_s']:.0f} s, of which waits {row['waits_s']:.0f} s); reached {row['reached']:.3f} of it: "
            f"{met[row['reached'] >= REACHED_MIN]}"
        ),
        (
            f"- {row['row']}: lost per death {lost or 0:.1f} min, half an interval and an upload are {row['loss_min_allowed']:.1f} min: "
            f"{met[(lost or 0) <= row['loss_min_allowed']]}; wrong resumes {row['wrong']}: {met[not row['wrong']]}"
        ),
        (
            f"- {row['row']}: without --takeover each start gives its predecessor {row['answer_s']:.0f} s to answer, "
            f"{100 * row['answer_s'] / 3600 / mean_h:.1f} % of a mean life"
        ),
    ]
    if best is not None:
        lines.append(
            f"- {row['row']}: goodput against the best peer's {100 * best:.1f} %: {met[row['goodput'] > best]}"
        )
    return lines
