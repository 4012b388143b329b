"""Which checkpoints may go, and why each of the others stays."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor.core.checkpoint import CheckpointId

NEWEST_MIN = 2  # one alone has none to walk back to


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint in the store. ``durable`` is what is proved; ``broken`` what was read and found not whole."""

    id: CheckpointId
    durable: bool
    broken: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Keep the newest ``newest`` (at least 2), the pinned, and the best by score if ``best`` says which way."""

    newest: int = 3
    pins: Collection[CheckpointId] = ()
    best: Literal["min", "max"] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """``keep`` gives a reason for each that stays; ``remove`` is ordered oldest first."""

    keep: dict[CheckpointId, str] = field(default_factory=dict)
    remove: tuple[CheckpointId, ...] = ()


def plan(stored: Iterable[Kept], policy: Policy) -> Plan:
    """Plan what to remove. Nothing goes unless ``newest`` newer checkpoints are DURABLE (and at least two)."""
    every = sorted(stored, key=lambda each: each.id, reverse=True)
    needed = max(NEWEST_MIN, policy.newest)
    durable = {each.id for each in every if each.durable and not each.broken}  # a drive may show one of them twice
    best = _best(every, policy)
    keep: dict[CheckpointId, str] = {}
    remove: list[CheckpointId] = []
    passed: set[CheckpointId] = set()
    for each in every:
        passed |= {each.id} & durable  # newest first, so these are the durable ones from here up
        if len(passed) - (each.id in passed) < needed:
            keep[each.id] = f"among the newest {needed}" if each.durable else "not yet behind enough DURABLE ones"
        elif each.id in policy.pins:
            keep[each.id] = "pinned"
        elif each.id == best:
            keep[each.id] = "the best so far"
        else:
            remove.append(each.id)
    return Plan(keep, tuple(reversed(remove)))


def _best(every: list[Kept], policy: Policy) -> CheckpointId | None:
    scored = [each for each in every if each.durable and not each.broken and each.score is not None]
    if policy.best is None or not scored:
        return None
    pick = min if policy.best == "min" else max
    return pick(scored, key=lambda each: each.score if each.score is not None else 0.0).id
