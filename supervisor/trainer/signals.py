"""SIGTERM and Ctrl-C for a process that trains: the handler only leaves word, and forked children get the usual ones back."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def listen(told: Callable[[int], None], numbers: tuple[signal.Signals, ...]) -> None:
    """Call ``told(number)`` for each signal from now on; outside the main thread nothing can be done, and nothing is."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: FrameType | None) -> None:
        told(number)

    def put_back() -> None:
        # A data loader's worker that kept our handler would survive the SIGTERM that is to end it.
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, handle)
    os.register_at_fork(after_in_child=put_back)
