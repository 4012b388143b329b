"""Checkpoints as a table, as lines of a verification, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.checkpoint import CheckpointId, Found, Verdict
from supervisor.core.spoken import duration
from supervisor.views.table import rows
from supervisor.views.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS = ("step", "session", "size", "made", "state", "safe by", "kept because")
_STATES = {"DURABLE": "safe", "SUBMITTED": "written", "STAGED": "on this disk"}
_MEANINGS = {
    "DURABLE": "the store has confirmed every byte of it",
    "SUBMITTED": "in the store, and not safe yet",
    "STAGED": "only this machine has it",
}
PROOFS = {
    "fsync": "flushed to disk",
    "drivefs": "Drive: uploaded",
    "rclone": "rclone: uploaded",
    "verified": "verified on another machine",
    "flush": "all sent when its session ended",
    "end": "named by its session's end",
}
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
    def proved_wall_s(self) -> float | None: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def kept(self) -> str: ...
    @property
    def why(self) -> str: ...


def table(found: Sequence[Row], now_wall_s: float) -> list[str]:
    """Return the list, newest last."""
    return rows(HEADS, [_cells(row, now_wall_s) for row in found])


def legend(found: Sequence[Row]) -> list[str]:
    """Return a line that explains the states that are shown."""
    seen = {row.state for row in found}
    words = [f"{_STATES[state]}: {means}" for state, means in _MEANINGS.items() if state in seen]
    return [f"  {'; '.join(words)}"] if words else []


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
        "proved_at": row.proved_wall_s,
    }


def proof(evidence: str) -> str:
    """Say what proves a checkpoint safe. Where its files had different proofs, all are said."""
    return ", ".join(PROOFS.get(each, each) for each in evidence.split("+"))


def verdict(found: Found, evidence: str = "", why: str = "") -> str:
    """Return a line on one checkpoint that was read and hashed anew: what proves it safe, or why nothing does."""
    if found.verdict is not Verdict.WHOLE:
        return f"{found.id}: {_word(found)}: {found.why}"
    means = [each for each in (proof(evidence) if evidence else "", why) if each]
    length = size(found.manifest.bytes) if found.manifest else "?"
    return "; ".join((f"{found.id}: verified ({length})", *means))


def plain_verdict(found: Found, evidence: str | None = None) -> dict[str, Any]:
    """Return the same for JSON. ``evidence``: what proves it safe, as far as this verification could tell."""
    return {
        "step": found.id.step,
        "session": found.id.epoch,
        "writer": found.id.writer,
        "verdict": _word(found),
        "problem": found.why or None,
        "bytes": found.manifest.bytes if found.manifest else None,
        "evidence": evidence,
    }


def summary(found: Sequence[Found]) -> str:
    """Return how many are as they were written and how many are not."""
    if not found:
        return "no checkpoint yet"
    words = ["verified" if each.verdict is Verdict.WHOLE else _word(each) for each in found]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _word(found: Found) -> str:
    return "unknown" if found.verdict is None else _WORDS.get(found.verdict, str(found.verdict))


def _cells(row: Row, now_wall_s: float) -> tuple[str, ...]:
    reason = row.why or row.kept or "goes at the next retention"
    pinned = "" if not row.pinned or reason == "pinned" else "pinned; "
    return (
        f"{row.id.step:,}",
        str(row.id.epoch),
        "" if row.bytes is None else size(row.bytes),
        _ago(row.made_wall_s, now_wall_s),
        _STATES.get(row.state, row.state),
        _proved(row, now_wall_s),
        f"{pinned}{reason}",
    )


def _proved(row: Row, now_wall_s: float) -> str:
    if row.evidence:
        when = _ago(row.proved_wall_s, now_wall_s)
        return f"{proof(row.evidence)}{when and ', '}{when}"
    return "not safe yet" if row.state == "SUBMITTED" else ""


def _ago(wall_s: float | None, now_wall_s: float) -> str:
    return "" if wall_s is None else f"{duration(max(0.0, now_wall_s - wall_s))} ago"
