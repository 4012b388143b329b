"""History of a run: reads the summaries of earlier sessions and writes one for the next, so that few are ever read."""

from __future__ import annotations

import json
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.core.ports import NotFound, Store
from supervisor.core.session import history
from supervisor.core.session.events import HistoryRead, TrainerMessage
from supervisor.core.session.status import RunStatus
from supervisor.core.wire import messages, shapes
from supervisor.engine.journal import newest_status, parse_piece, piece_names
from supervisor.engine.paths import RunPaths
from supervisor.engine.run_catalog.claims import Alive, newest_first, ranks, read_claim, read_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.checkpoint.session_id import SessionId

CARRIED = "history.json"
OTHER_RUNS_MAX, SESSIONS_BACK = 8, 2


@dataclass(frozen=True, slots=True)
class _Carried:
    """The summary that a session leaves for its successor, with the names of ``HistoryRead``."""

    lives_s: tuple[float, ...]
    reclaimed_s: tuple[float, ...]
    lost: shapes.Whole
    lost_in_a_row: shapes.Whole
    longest_s: Mapping[str, float]
    reclaimed_on: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def read(store: Store, run: RunPaths, mine: SessionId, alive: Alive, platform: str = "") -> HistoryRead:
    """Return the history up to this session. Preempted machines of our ``platform`` predict this machine's lifetime."""
    stories: list[history.SessionSummary] = []
    carried = HistoryRead()
    for rank in newest_first([rank for rank in ranks(store, run) if rank < mine]):
        status = newest_status(store, run, rank)
        stories.append(_story(store, run, rank, status, alive))
        known = _read_summary(store, run, rank)
        if known is not None:
            carried = known
            break
    told = history.summarize(carried, stories[::-1])
    return replace(told, reclaimed_s=told.reclaimed_on.get(platform, ())) if platform else told


def peer_lifetimes(store: Store, run: RunPaths, platform: str) -> tuple[float, ...]:
    """Return the ages in seconds at which machines of this platform were lost in other runs of this store.

    They come from the summaries of the last sessions. At most about thirty small files are read.
    """
    reached: list[float] = []
    others = sorted(entry.name for entry in store.list("") if entry.folder and entry.name != run.name)
    for other in map(RunPaths, others[:OTHER_RUNS_MAX]):
        for rank in ranks(store, other)[: -SESSIONS_BACK - 1 : -1]:
            carried = _read_summary(store, other, rank)
            if carried is not None:
                reached += carried.reclaimed_on.get(platform, ())
                break
    return tuple(reached)


def describe(store: Store, run: RunPaths, rank: SessionId, alive: Alive) -> str:
    """Describe one session in a sentence: how it ended and how far it came."""
    story = _story(store, run, rank, newest_status(store, run, rank), alive)
    return f"session {rank.generation} {history.describe(story)}"


def write_summary(store: Store, run: RunPaths, mine: SessionId, told: HistoryRead) -> None:
    """Write the summary for the next session."""
    body = {
        "lives_s": told.lives_s,
        "reclaimed_s": told.reclaimed_s,
        "lost": told.lost,
        "lost_in_a_row": told.lost_in_a_row,
        "longest_s": dict(told.longest_s),
        "reclaimed_on": {name: list(lives) for name, lives in told.reclaimed_on.items()},
    }
    store.create(f"{run.session(mine)}/{CARRIED}", json.dumps(body).encode())


def _read_summary(store: Store, run: RunPaths, rank: SessionId) -> HistoryRead | None:
    try:
        known = shapes.read(_Carried, store.read(f"{run.session(rank)}/{CARRIED}"))
        return HistoryRead(**{name: getattr(known, name) for name in _Carried.__slots__})
    except (NotFound, ValueError):
        return None  # absent or damaged: the sessions before it are read instead


def _story(
    store: Store, run: RunPaths, rank: SessionId, status: RunStatus | None, alive: Alive
) -> history.SessionSummary:
    end = read_end(store, run, rank)
    claim = read_claim(store, run, rank)
    seen = status or RunStatus()
    lived_s = None
    if seen.updated and seen.session_started:
        lived_s = max(0.0, seen.updated.mono_s - seen.session_started.mono_s)
    limit_s = None
    if seen.deadline_at_s is not None and seen.session_started is not None:
        limit_s = seen.deadline_at_s - seen.session_started.mono_s
    return history.SessionSummary(
        epoch=rank.generation,
        platform=str(claim.get("platform") or seen.platform),
        lived_s=lived_s,
        limit_s=limit_s,
        end=str(end.get("reason", "")),
        end_words=str(end.get("words", "")),
        first_step=seen.session_from_step,
        last_step=seen.step,
        durable_step=seen.durable,
        step_s=seen.step_s,
        memory_available=seen.memory_available,
        longest_s=_longest(store, run, rank),
        counted=seen.counted,
        here=alive(claim.get("machine", {})) is not None,
        age_s=_seconds(claim.get("age_s")),
    )


def _seconds(told: object) -> float:
    return float(told) if isinstance(told, int | float) else 0.0


def _longest(store: Store, run: RunPaths, rank: SessionId) -> Mapping[str, float]:
    names = piece_names(store, run, rank)
    if not names:
        return {}
    longest: dict[str, float] = {}
    for record in parse_piece(store.read(f"{run.session(rank)}/{names[-1]}"))[1]:
        said: Any = record.value
        if isinstance(said, TrainerMessage) and isinstance(said.message, messages.Heartbeat):
            longest = {**longest, **said.message.longest_s}
    return longest
