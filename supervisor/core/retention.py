"""Which checkpoints may go, and why each of the others stays."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.nonfinite import Quality

NEWEST_MIN = 2  # one alone has none to walk back to
BEFORE_NAN = "the last before the loss became no number"
DOUBTFUL = "the last before a loss that is no number was seen"


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint in the store. ``durable`` is what is proved; ``broken`` what was read and found not whole.

    ``quality``: is it from before a loss that is no number, or may it be from after ("doubtful"), or is it ("spoiled").
    """

    id: CheckpointId
    durable: bool
    broken: bool = False
    score: float | None = None
    quality: Quality = "good"


@dataclass(frozen=True, slots=True)
class Policy:
    """Keep the newest ``newest`` (at least 2), the pinned, and the best by score if ``best`` says which way.

    ``watched``: the names of the values that must be finite, () for every loss.
    """

    newest: int = 3
    pins: Collection[CheckpointId] = ()
    best: Literal["min", "max"] | None = None
    watched: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """``keep`` gives a reason for each that stays; ``remove`` is ordered oldest first."""

    keep: dict[CheckpointId, str] = field(default_factory=dict)
    remove: tuple[CheckpointId, ...] = ()


def plan(stored: Iterable[Kept], policy: Policy) -> Plan:
    """Plan what to remove. Nothing goes unless ``newest`` newer checkpoints are DURABLE (and at least two).

    The last one before a loss that is no number stays until there is a good one after it, whatever else is newer.
    """
    every = sorted(stored, key=lambda each: each.id, reverse=True)
    needed = max(NEWEST_MIN, policy.newest)
    durable = {each.id for each in every if each.durable and not each.broken}  # a drive may show one of them twice
    best, before = _best(every, policy), last_before_nan(every)
    keep: dict[CheckpointId, str] = {}
    remove: list[CheckpointId] = []
    passed: set[CheckpointId] = set()
    for each in every:
        passed |= {each.id} & durable  # newest first, so these are the durable ones from here up
        if each.id in before:
            keep[each.id] = before[each.id]
        elif len(passed) - (each.id in passed) < needed:
            keep[each.id] = f"among the newest {needed}" if each.durable else "not yet behind enough safe ones"
        elif each.id in policy.pins:
            keep[each.id] = "pinned"
        elif each.id == best:
            keep[each.id] = "the best so far"
        else:
            remove.append(each.id)
    return Plan(keep, tuple(reversed(remove)))


def last_before_nan(newest_first: Sequence[Kept]) -> dict[CheckpointId, str]:
    """Return what stays because newer ones are bad, with why: the last good one, the last proved good one, the last doubtful one.

    A checkpoint of another machine counts too, which this session did not prove: it may be the only good one.
    """
    kept: dict[CheckpointId, str] = {}
    bad = False
    for each in newest_first:
        if each.broken:
            continue
        if each.quality != "good":
            bad = True
            if each.quality == "doubtful" and not kept:
                kept[each.id] = DOUBTFUL
        else:
            if bad and (each.durable or BEFORE_NAN not in kept.values()):
                kept[each.id] = BEFORE_NAN
            if each.durable:
                break
    return kept


def _best(every: list[Kept], policy: Policy) -> CheckpointId | None:
    scored = [each for each in every if each.durable and not each.broken and each.score is not None]
    if policy.best is None or not scored:
        return None
    pick = min if policy.best == "min" else max
    return pick(scored, key=lambda each: each.score if each.score is not None else 0.0).id
