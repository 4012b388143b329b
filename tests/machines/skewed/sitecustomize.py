"""Python imports this by itself where this folder is on its path: its wall clock is then wrong by $MACHINE_SKEW_S seconds."""

import os
import time

_SKEW_S = float(os.environ.get("MACHINE_SKEW_S", "0"))


def _later(read, skew):
    return lambda: read() + skew


def _later_of(read, skew):
    return lambda clock: read(clock) + (skew if clock == time.CLOCK_REALTIME else 0)


time.time = _later(time.time, _SKEW_S)  # noqa: TID251, because this is the clock
time.time_ns = _later(time.time_ns, int(_SKEW_S * 1e9))
time.clock_gettime = _later_of(time.clock_gettime, _SKEW_S)
time.clock_gettime_ns = _later_of(time.clock_gettime_ns, int(_SKEW_S * 1e9))
