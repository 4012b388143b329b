"""Threads beside the training loop, on a machine that may allow no more of them: then the loop does their work itself."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def started(act: Callable[[], object], name: str, *, daemon: bool = False) -> threading.Thread | None:
    """Run on a thread of its own; None if the machine allows no more: then nothing was done, and the caller does it."""
    thread = threading.Thread(target=act, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError:  # all that Python says of a limit on threads or processes
        return None
    return thread
