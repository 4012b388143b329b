"""How often to save: often enough to lose little, seldom enough to cost little.

Young's first-order optimum (Young 1974, "A first order approximation to the optimum checkpoint interval"):
with a save that costs C seconds of training and machines that live M seconds on average, save every sqrt(2 C M).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

SAVE_S_MIN = 10.0
SAVE_S_MAX = 1800.0
LIFE_S_PRIOR = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Interval:
    """``every_s`` between saves; on a death ``loss_s`` of work is lost on average; saving takes ``cost`` of the time."""

    every_s: float
    loss_s: float
    cost: float


def best(save_cost_s: float, upload_s: float, mean_life_s: float) -> Interval:
    """Return max(sqrt(2 C M), 1.2 x upload): a save must also not wait for the one before it to arrive.

    Bounded to 10 s .. 30 min: below, the loop itself is disturbed; above, a death that no statistic foresaw costs
    more than all the saves.
    """
    every_s = max(math.sqrt(2 * max(save_cost_s, 1e-3) * mean_life_s), SAVE_S_MIN)
    every_s = max(min(every_s, SAVE_S_MAX), 1.2 * upload_s)
    return Interval(every_s, loss_s=every_s / 2 + upload_s, cost=save_cost_s / (every_s + save_cost_s))


def words(interval: Interval) -> str:
    """Say what an interval means for the run."""
    cost = f"{100 * interval.cost:.1f} %" if interval.cost >= 0.001 else "under 0.1 %"  # noqa: PLR2004
    return (
        f"saving every {interval.every_s:.0f} s, from the measured cost of a save and the lives of machines: "
        f"a death loses about {interval.loss_s:.0f} s of work, saving takes {cost} of the time"
    )


def mean_life(lives_s: Sequence[float], lost: int, *, prior_s: float = LIFE_S_PRIOR) -> float:
    """Return the mean time between losses of a machine, from the lives seen and how many of them ended in a loss.

    A planned end or a life still going on counts its time but no loss; one prior life keeps the mean finite.
    """
    return (prior_s + sum(lives_s)) / (1 + lost)
