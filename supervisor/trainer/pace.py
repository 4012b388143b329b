"""How much time the training loop loses beside the writing of a checkpoint: its steps then, against its steps before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS_MIN = 5  # fewer say nothing


class Pace:
    """``done()`` gives the steps done so far and the seconds spent in them."""

    def __init__(self, done: Callable[[], tuple[int, float]]) -> None:
        self._done = done
        self._quiet_from = done()
        self._write_from: tuple[int, float] | None = None
        self._step_s: float | None = None

    def write_begins(self) -> None:
        """The loop goes on, and something is written beside it from now on."""
        self._write_from = now = self._done()
        steps, seconds = _between(self._quiet_from, now)
        if steps >= STEPS_MIN:
            self._step_s = seconds / steps

    def write_ended(self) -> float:
        """Return the seconds that the steps since ``write_begins`` took more than undisturbed ones; 0 where too few tell."""
        began, self._write_from, self._quiet_from = self._write_from, None, self._done()
        if began is None:
            return 0.0  # training waited for it: nothing was written beside the loop
        steps, seconds = _between(began, self._quiet_from)
        if self._step_s is None or steps < STEPS_MIN:
            return 0.0
        return max(0.0, seconds - steps * self._step_s)


def _between(begin: tuple[int, float], end: tuple[int, float]) -> tuple[int, float]:
    return end[0] - begin[0], end[1] - begin[1]
