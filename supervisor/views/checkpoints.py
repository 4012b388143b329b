"""Checkpoints as a table, as lines of a verification, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.checkpoint import CheckpointId, Found, Verdict
from supervisor.core.spoken import duration
from supervisor.views.table import rows
from supervisor.views.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS = ("step", "session", "size", "made", "state", "kept because")
_WORDS = {Verdict.BROKEN: "damaged", Verdict.NEWER: "of a newer version"}


class Row(Protocol):
    """One line of the list (``engine.catalogue.Row``)."""

    @property
    def id(self) -> CheckpointId: ...
    @property
    def state(self) -> str: ...
    @property
    def evidence(self) -> str | None: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def sent_bytes(self) -> int | None: ...
    @property
    def made_wall_s(self) -> float | None: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def kept(self) -> str: ...
    @property
    def why(self) -> str: ...


def table(found: Sequence[Row], now_wall_s: float) -> list[str]:
    """Return the list, newest last."""
    return rows(HEADS, [_cells(row, now_wall_s) for row in found])


def plain(row: Row) -> dict[str, Any]:
    """Return a row as JSON prints it; unknown is null."""
    return {
        "step": row.id.step,
        "session": row.id.epoch,
        "writer": row.id.writer,
        "state": row.state,
        "evidence": row.evidence,
        "bytes": row.bytes,
        "sent_bytes": row.sent_bytes,
        "made": row.made_wall_s,
        "pinned": row.pinned,
        "kept": row.kept or None,
        "problem": row.why or None,
    }


def verdict(found: Found) -> str:
    """Return a line on one checkpoint that was read and hashed anew."""
    if found.verdict is Verdict.WHOLE:
        return f"{found.id}: whole ({size(found.manifest.bytes) if found.manifest else '?'})"
    return f"{found.id}: {_word(found)}: {found.why}"


def plain_verdict(found: Found) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "step": found.id.step,
        "session": found.id.epoch,
        "writer": found.id.writer,
        "verdict": _word(found),
        "problem": found.why or None,
        "bytes": found.manifest.bytes if found.manifest else None,
    }


def summary(found: Sequence[Found]) -> str:
    """Return how many are whole and how many are not."""
    if not found:
        return "no checkpoint yet"
    words = [_word(each) for each in found]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _word(found: Found) -> str:
    return "unknown" if found.verdict is None else _WORDS.get(found.verdict, str(found.verdict))


def _cells(row: Row, now_wall_s: float) -> tuple[str, ...]:
    made = "" if row.made_wall_s is None else f"{duration(max(0.0, now_wall_s - row.made_wall_s))} ago"
    proved = f" ({row.evidence})" if row.evidence else ""
    reason = row.why or row.kept or "goes at the next retention"
    pinned = "" if not row.pinned or reason == "pinned" else "pinned; "
    return (
        f"{row.id.step:,}",
        str(row.id.epoch),
        "" if row.bytes is None else size(row.bytes),
        made,
        f"{row.state}{proved}",
        f"{pinned}{reason}",
    )
