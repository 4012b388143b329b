"""Read what earlier sessions left, and carry it on, so that nobody ever reads more than the last few."""

from __future__ import annotations

import json
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from supervisor.core import history, messages, shapes
from supervisor.core.events import HistoryRead, TrainerSaid
from supervisor.core.ports import Missing, Store
from supervisor.core.status import RunStatus
from supervisor.core.values import dataclass
from supervisor.engine.claims import Alive, newest_first, ranks, read_claim, read_end
from supervisor.engine.journal import newest_status, parse_piece, piece_names
from supervisor.engine.place import RunPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.claim import Rank

CARRIED = "history.json"
OTHER_RUNS_MAX, SESSIONS_BACK = 8, 2


@dataclass(frozen=True, slots=True)
class _Carried:
    """What a session leaves of the history for its successor, by the names of ``HistoryRead``."""

    lives_s: tuple[float, ...]
    reclaimed_s: tuple[float, ...]
    lost: shapes.Whole
    lost_in_a_row: shapes.Whole
    longest_s: Mapping[str, float]
    reclaimed_on: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def read(store: Store, run: RunPlace, mine: Rank, alive: Alive, platform: str = "") -> HistoryRead:
    """Return the history up to us. Of the machines that were reclaimed, those of our ``platform`` tell how long ours may live."""
    stories: list[history.Story] = []
    carried = HistoryRead()
    for rank in newest_first([rank for rank in ranks(store, run) if rank < mine]):
        status = newest_status(store, run, rank)
        stories.append(_story(store, run, rank, status, alive))
        known = _carried(store, run, rank)
        if known is not None:
            carried = known
            break
    told = history.tell(carried, stories[::-1])
    return replace(told, reclaimed_s=told.reclaimed_on.get(platform, ())) if platform else told


def lives_of_others(store: Store, run: RunPlace, platform: str) -> tuple[float, ...]:
    """Return how old machines of this platform were that other runs in this store lost, in seconds.

    From what their last sessions carry along; of so few runs and sessions that it costs some thirty small reads at most.
    """
    reached: list[float] = []
    others = sorted(entry.name for entry in store.list("") if entry.folder and entry.name != run.name)
    for other in map(RunPlace, others[:OTHER_RUNS_MAX]):
        for rank in ranks(store, other)[: -SESSIONS_BACK - 1 : -1]:
            carried = _carried(store, other, rank)
            if carried is not None:
                reached += carried.reclaimed_on.get(platform, ())
                break
    return tuple(reached)


def told(store: Store, run: RunPlace, rank: Rank, alive: Alive) -> str:
    """Return one sentence about one session: how it ended and how far it had come."""
    story = _story(store, run, rank, newest_status(store, run, rank), alive)
    return f"session {rank.epoch} {history.sentence(story)}"


def carry(store: Store, run: RunPlace, mine: Rank, told: HistoryRead) -> None:
    """Leave the history for our successor."""
    body = {
        "lives_s": told.lives_s,
        "reclaimed_s": told.reclaimed_s,
        "lost": told.lost,
        "lost_in_a_row": told.lost_in_a_row,
        "longest_s": dict(told.longest_s),
        "reclaimed_on": {name: list(lives) for name, lives in told.reclaimed_on.items()},
    }
    store.create(f"{run.session(mine)}/{CARRIED}", json.dumps(body).encode())


def _carried(store: Store, run: RunPlace, rank: Rank) -> HistoryRead | None:
    try:
        known = shapes.read(_Carried, store.read(f"{run.session(rank)}/{CARRIED}"))
        return HistoryRead(**{name: getattr(known, name) for name in _Carried.__slots__})
    except (Missing, ValueError):
        return None  # it died before writing it, or it is damaged: the sessions before it are read instead


def _story(store: Store, run: RunPlace, rank: Rank, status: RunStatus | None, alive: Alive) -> history.Story:
    end = read_end(store, run, rank)
    claim = read_claim(store, run, rank)
    seen = status or RunStatus()
    lived_s = None
    if seen.updated and seen.session_started:
        lived_s = max(0.0, seen.updated.mono_s - seen.session_started.mono_s)
    limit_s = None
    if seen.deadline_at_s is not None and seen.session_started is not None:
        limit_s = seen.deadline_at_s - seen.session_started.mono_s
    return history.Story(
        epoch=rank.epoch,
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


def _longest(store: Store, run: RunPlace, rank: Rank) -> Mapping[str, float]:
    names = piece_names(store, run, rank)
    if not names:
        return {}
    longest: dict[str, float] = {}
    for record in parse_piece(store.read(f"{run.session(rank)}/{names[-1]}"))[1]:
        said: Any = record.value
        if isinstance(said, TrainerSaid) and isinstance(said.message, messages.Beat):
            longest = {**longest, **said.message.longest_s}
    return longest
