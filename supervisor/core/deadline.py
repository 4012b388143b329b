"""When this machine is expected to end, and when the last save before that must begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGIN = 0.05
MARGIN_S_MIN = 3.0
MARGIN_S_MAX = 180.0
EARLY_LIFE = 0.8


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a machine lives from its start. ``hard``: the user's word, leave in time; else only a planning figure."""

    seconds: float
    hard: bool


def expected(stated: Lifetime | None, lived_s: Sequence[float]) -> Lifetime | None:
    """Return the life to plan for: what was stated, or, for a soft figure, what this account's machines really reached.

    A machine that was reclaimed later than stated shows that they may live so long: some accounts get more. If at least
    two were reclaimed, and the longest of them fell short of the stated life by more than a fifth, the longest is
    planned for: limits are lowered without notice.
    """
    if stated is None or stated.hard or not lived_s:
        return stated
    longest = max(lived_s)
    short = len(lived_s) > 1 and longest < EARLY_LIFE * stated.seconds  # one early end is no pattern
    return Lifetime(longest, hard=False) if short or longest > stated.seconds else stated


def drain_at(life_s: float, *, save_s: float, upload_s: float, step_s: float) -> float:
    """Return the age in seconds at which the last save must begin, to be DURABLE before the end.

    Twice the longest save, upload and step seen, and a margin of 5 % of the life (3 s to 3 min), because the last
    upload of a machine has nobody left to try it again.
    """
    margin_s = min(max(MARGIN * life_s, MARGIN_S_MIN), MARGIN_S_MAX)
    return max(0.0, life_s - margin_s - 2 * (save_s + upload_s + step_s))
