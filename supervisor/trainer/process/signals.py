"""SIGTERM and Ctrl-C in a training process.

The handler only sets flags, and forked children get the previous handlers back.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def listen(on_signal: Callable[[int], None], numbers: tuple[signal.Signals, ...]) -> None:
    """Call ``on_signal(number)`` for each signal from now on.

    Outside the main thread, Python allows no handlers, so nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: FrameType | None) -> None:
        on_signal(number)

    def restore_handlers() -> None:
        # A data loader's worker with our handler would survive the SIGTERM that ends it.
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, handle)
    os.register_at_fork(after_in_child=restore_handlers)
