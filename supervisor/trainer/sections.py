"""Where the time of an attempt goes: seconds and longest stay in each section (start, restore, step, save, eval)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.trainer.clock import Clock


class Sections:
    """One section at a time; within ``step`` each ``lap`` is a stay of its own. ``laps`` took ``lapped_s`` seconds in all."""

    def __init__(self, clock: Clock) -> None:
        self.name = "start"
        self.seconds: dict[str, float] = {}
        self.longest_s: dict[str, float] = {}
        self._clock = clock
        self._since_s = clock()
        self._stay_s = 0.0  # of this section before the last interruption
        self.laps, self.lapped_s = 0, 0.0

    def enter(self, name: str) -> None:
        """End the stay in the present section and begin one in ``name``."""
        self._add(self._clock())
        self._close(self.name)
        self.name, self._stay_s = name, 0.0

    def lap(self, now_s: float) -> None:
        """A step was done: its stay ends and the next one's begins."""
        self._add(now_s)
        self._close(self.name)
        self.lapped_s += self._stay_s
        self.laps += 1
        self._stay_s = 0.0

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Interrupt the present section: its stay goes on afterwards and does not count the time between."""
        self._add(self._clock())
        outer, outer_stay_s = self.name, self._stay_s
        self.name, self._stay_s = name, 0.0
        try:
            yield
        finally:
            self._add(self._clock())
            self._close(name)
            self.name, self._stay_s = outer, outer_stay_s

    def _add(self, now_s: float) -> None:
        spent_s = now_s - self._since_s
        self._since_s = now_s
        self._stay_s += spent_s
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + spent_s

    def _close(self, name: str) -> None:
        if self._stay_s > self.longest_s.get(name, 0.0):
            self.longest_s[name] = self._stay_s
