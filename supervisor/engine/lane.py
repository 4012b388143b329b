"""One thread that does slow things in order, so that the loop never waits for a disk or a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, get_native_id

from supervisor.engine.threads import exhausted

Work = Callable[[], None]
NICE = 10  # what is read, hashed and sent here has time; the training process beside it has not


class Lane:
    """Runs what it is given, one after the other, on a daemon thread: a hung store cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def submit(self, work: Work) -> None:
        """Do this when its turn comes. ``work`` reports its own outcome and does not raise."""
        if not self._started:
            try:
                self._thread.start()
            except RuntimeError as error:
                if not exhausted(error):
                    raise
                work()  # slow, but so a session without threads can still record how it ended
                return
            self._started = True
        self._queue.put(work)

    def _run(self) -> None:
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
        while (work := self._queue.get()) is not None:
            work()
