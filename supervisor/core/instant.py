"""A point in time on both clocks, so that nobody passes the wrong one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """``mono_s`` only grows and counts suspended time (the boot clock); ``wall_s`` is for people to read.

    Decisions use ``mono_s`` alone, because wall clocks are set, jump, and differ between machines.
    """

    mono_s: float
    wall_s: float

    def since(self, earlier: Instant) -> float:
        """Return the seconds from ``earlier`` to this instant."""
        return self.mono_s - earlier.mono_s

    def later(self, seconds: float) -> Instant:
        """Return the instant ``seconds`` after this one."""
        return Instant(self.mono_s + seconds, self.wall_s + seconds)
