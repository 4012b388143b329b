"""The one place where the script's side reads a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

now_s: Clock = time.monotonic  # noqa: TID251  # this is the file that may
sleep: Callable[[float], None] = time.sleep
