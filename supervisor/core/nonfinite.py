"""Which checkpoints are from after a loss that is no number, told from records and manifests alone, so on every machine the same.

A session that sees such a loss leaves a record in its own folder. The record's name says which checkpoints are doubtful:
those between the last good loss and the bad one. Later ones bear the bad value among their own metrics. A checkpoint
whose metrics are good again is a good one.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

from supervisor.core import fields
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from supervisor.core.checkpoint import Manifest
    from supervisor.core.claim import Rank

RECORD = re.compile(rf"nan-({fields.STEPS})-({fields.STEPS}){fields.TWIN}\.json")
WORDS = frozenset({"nan", "inf", "-inf", "infinity", "-infinity"})  # as both kinds of scripts write them into JSON

Quality = Literal["good", "doubtful", "spoiled"]


@dataclass(frozen=True, slots=True)
class Nonfinite:
    """The session ``rank`` saw a loss that is no number at the index ``step``. With ``fine`` steps all was in order.

    ``step`` 0: it went on from a checkpoint of ``fine`` steps that is not good, so all it makes is as bad until it logs a number.
    """

    rank: Rank
    fine: int
    step: int

    @property
    def name(self) -> str:
        """The name of its record, in the folder of its session."""
        return f"nan-{self.fine:09d}-{self.step:09d}.json"

    def covers(self, id_: CheckpointId) -> bool:
        """Say whether a checkpoint lies between the last good loss and the bad one."""
        return id_.rank <= self.rank and self.fine < id_.step <= self.step

    def passes_on(self, id_: CheckpointId) -> bool:
        """Say whether a checkpoint goes on from one that is not good."""
        return self.step == 0 and id_.rank == self.rank and id_.step >= self.fine


def parse(rank: Rank, name: str) -> Nonfinite | None:
    """Return what the record of this name in this session's folder says; None for any other name."""
    match = RECORD.fullmatch(name)
    return Nonfinite(rank, int(match[1]), int(match[2])) if match else None


def is_watched(name: str, names: Collection[str]) -> bool:
    """Say whether a logged value is watched: one of ``names``, or without them every loss."""
    return name in names if names else "loss" in name.lower()


def is_nonfinite(value: object) -> bool:
    """Say whether a logged value is no finite number."""
    if isinstance(value, str):
        return value.lower() in WORDS
    return isinstance(value, float) and not math.isfinite(value)


def quality(
    id_: CheckpointId,
    manifest_of: Callable[[CheckpointId], Manifest | None],
    records: Iterable[Nonfinite],
    names: Collection[str] = (),
) -> Quality:
    """Return what is known of a checkpoint. One that logged nothing yet is as good as the one it goes on from."""
    known, seen = tuple(records), set[CheckpointId]()
    while id_ not in seen:
        seen.add(id_)
        manifest = manifest_of(id_)
        told = None if manifest is None else _told(manifest.metrics, names)
        if told is False:
            return "spoiled"
        if any(each.covers(id_) for each in known):
            return "doubtful"
        if told is None and any(each.passes_on(id_) for each in known):
            return "spoiled"
        if manifest is None or told is not None or manifest.parent is None:
            return "good"
        id_ = manifest.parent
    return "good"


def _told(metrics: Mapping[str, object], names: Collection[str]) -> bool | None:
    """Say whether all watched values are finite; None where there is none."""
    values = [value for name, value in metrics.items() if is_watched(name, names)]
    numbers = [value for value in values if is_nonfinite(value) or type(value) in {int, float}]
    return not any(map(is_nonfinite, numbers)) if numbers else None
