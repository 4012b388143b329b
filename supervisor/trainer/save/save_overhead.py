"""How much time the training loop loses beside the writing of a checkpoint: its steps then, against its steps before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS_MIN = 5  # fewer say nothing


class SaveOverhead:
    """``step_totals()`` gives the steps done so far and the seconds spent in them."""

    def __init__(self, step_totals: Callable[[], tuple[int, float]]) -> None:
        self._step_totals = step_totals
        self._idle_since = step_totals()
        self._write_since: tuple[int, float] | None = None
        self._idle_step_s: float | None = None

    def write_started(self) -> None:
        """The loop goes on, and something is written beside it from now on."""
        self._write_since = now = self._step_totals()
        steps, seconds = _between(self._idle_since, now)
        if steps >= STEPS_MIN:
            self._idle_step_s = seconds / steps

    def write_finished(self) -> float:
        """Return the seconds that the steps since ``write_started`` took more than undisturbed ones; 0 where too few tell."""
        began, self._write_since, self._idle_since = self._write_since, None, self._step_totals()
        if began is None:
            return 0.0  # training waited for it: nothing was written beside the loop
        steps, seconds = _between(began, self._idle_since)
        if self._idle_step_s is None or steps < STEPS_MIN:
            return 0.0
        return max(0.0, seconds - steps * self._idle_step_s)


def _between(begin: tuple[int, float], end: tuple[int, float]) -> tuple[int, float]:
    return end[0] - begin[0], end[1] - begin[1]
