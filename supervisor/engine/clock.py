"""The only file that reads a clock on the supervisor's side."""

from __future__ import annotations

import time

from supervisor.core.instant import Instant


class BootClock:
    """CLOCK_BOOTTIME where there is one: it never jumps and counts the time a machine was suspended."""

    def now(self) -> Instant:
        """Return this instant on both clocks, in seconds."""
        source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return Instant(mono_s=time.clock_gettime(source), wall_s=time.clock_gettime(time.CLOCK_REALTIME))
