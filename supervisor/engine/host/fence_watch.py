"""Checks the fence as soon as its folder changes. So `stop` and a take-over act within a second on a local disk.

This is only a shortcut: no store must report changes, and the regular check continues in any case.
"""

from __future__ import annotations

from pathlib import PurePath
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.ports import StoreError
from supervisor.engine import file_events, threads
from supervisor.engine.run_catalog.claims import PROBE, STOP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.session.events import Event


class FenceWatch:
    """``look`` lists the run and returns the result for ``inbox``.

    It starts on its own thread, because the trainer must not wait for an import.
    """

    def __init__(self, folder: Path, look: Callable[[], Event], inbox: Callable[[Event], None]) -> None:
        self._folder, self._look, self._inbox = folder, look, inbox
        self._observer: Any = None
        self._closed = False
        self.ready = Flag()
        threads.start(self._begin, "watch")  # without it the run's folder is checked every few seconds

    def close(self) -> None:
        """Stop watching."""
        self._closed = True
        if self._observer is not None:
            self._observer.stop()

    def _begin(self) -> None:
        try:
            handler_class, observer_class = file_events.handler_and_observer()
            handler = handler_class()
            handler.on_created = self._created
            observer = observer_class()
            observer.schedule(handler, str(self._folder))
            observer.start()
        except (OSError, ImportError, AttributeError):
            return  # no file events, or no watch left: the regular check is enough
        self._observer = observer
        self.ready.set()
        if self._closed:
            observer.stop()

    def _created(self, event: Any) -> None:
        name = PurePath(str(event.src_path)).name
        if parse_session_id(name) is None and not STOP.fullmatch(name) and not PROBE.fullmatch(name):
            return
        try:
            seen = self._look()
        except StoreError:
            return  # the regular check meets the same error, and reports it
        self._inbox(seen)
