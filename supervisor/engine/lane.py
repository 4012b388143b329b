"""One thread that does slow things in order, so that the loop never waits for a disk or a network."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Work = Callable[[], None]


class Lane:
    """Runs what it is given, one after the other, on a daemon thread: a hung store cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def submit(self, work: Work) -> None:
        """Do this when its turn comes. ``work`` reports its own outcome and does not raise."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._queue.put(work)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
