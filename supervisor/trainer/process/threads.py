"""Threads beside the training loop. Where the process limit allows no more of them, the loop does their work itself."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(target: Callable[[], object], name: str, *, daemon: bool = False) -> threading.Thread | None:
    """Run ``target`` on a thread of its own; None if the process limit allows no more.

    The caller then does the work itself.
    """
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError:  # Python's only error for a limit on threads or processes
        return None
    return thread
