"""Looks at the fence as soon as its folder changes, so that `stop` and a take-over act within a second on a local disk.

Only a shortcut: no store needs to report changes, and the regular look goes on whatever happens here.
"""

from __future__ import annotations

from pathlib import PurePath
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from supervisor.core.claim import rank_of
from supervisor.core.ports import StoreError
from supervisor.engine import file_events, threads
from supervisor.engine.claims import KNOCK, STOP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.events import Event


class Watch:
    """``look`` lists the run and returns what it saw; ``inbox`` is told of it.

    It begins on a thread of its own, because the trainer must not wait for a library to be imported.
    """

    def __init__(self, folder: Path, look: Callable[[], Event], inbox: Callable[[Event], None]) -> None:
        self._folder, self._look, self._inbox = folder, look, inbox
        self._observer: Any = None
        self._closed = False
        self.ready = Flag()
        threads.start(self._begin, "watch")  # without it the run's folder is looked at every few seconds

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        if self._observer is not None:
            self._observer.stop()

    def _begin(self) -> None:
        try:
            observer = file_events.observe(str(self._folder), on_created=self._created)
        except (OSError, ImportError, AttributeError):
            return  # no file events, or no watch left: the regular look is enough
        self._observer = observer
        self.ready.set()
        if self._closed:
            observer.stop()

    def _created(self, event: Any) -> None:
        name = PurePath(str(event.src_path)).name
        if rank_of(name) is None and not STOP.fullmatch(name) and not KNOCK.fullmatch(name):
            return
        try:
            seen = self._look()
        except StoreError:
            return  # the regular look meets the same error, and reports it
        self._inbox(seen)
