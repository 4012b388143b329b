"""When the next checkpoint is due, from the steps done and the time: exact multiples of steps, or so many seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from supervisor.trainer.settings import SaveEvery


class Due:
    """``step`` and ``at_s`` are the next that count; infinity if only a message decides. Pure: the caller brings the time."""

    def __init__(self, every: SaveEvery) -> None:
        self.step: float = math.inf
        self.at_s: float = math.inf
        self._every = every
        self._steps: int | None = every.steps

    def begin(self, step: int, now_s: float, epoch_steps: int | None) -> None:
        """Set the first: ``step`` steps are done now. UsageError if epochs are asked for and their length is unknown."""
        if self._every.epochs is not None:
            if epoch_steps is None:
                raise UsageError(
                    f"--save-every {self._every.epochs}ep needs the length of an epoch",
                    "call run.steps(total, epoch_steps=…), or save by steps or minutes",
                )
            self._steps = self._every.epochs * epoch_steps
        self.passed(step, now_s)

    def passed(self, step: int, now_s: float) -> None:
        """A save was taken, or the loop begins: set the next."""
        if self._steps is not None:
            self.step = (step // self._steps + 1) * self._steps
        if self._every.seconds is not None:
            self.at_s = now_s + self._every.seconds
