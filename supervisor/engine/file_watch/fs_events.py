"""File events of the system for a folder. Without them the folder is scanned every few seconds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.engine import file_events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITTEN = frozenset({"created", "modified", "moved", "deleted"})


class FileEvents(Protocol):
    """Receives an event on an absolute path. ``closed``: its writer closed it; else it was changed in some way."""

    def __call__(self, path: str, *, closed: bool) -> None: ...


class FileEventSource:
    """Listens to one folder and its subfolders. ``listening`` is False without events, and ``why`` gives the reason."""

    def __init__(self, on_event: FileEvents) -> None:
        self._on_file_event = on_event
        self._observer: Any = None
        self.why = ""

    def listen(self, folder: Path) -> bool:
        """Listen to an existing folder; return False if the system has no such feature, or no room for it."""
        try:
            handler_class, observer_class = file_events.handler_and_observer()
            handler = handler_class()
            handler.on_any_event = self._on_event
            observer = observer_class()
            observer.schedule(handler, os.fspath(folder), recursive=True)
            observer.start()
        except (OSError, ImportError, AttributeError) as error:  # errors of a system without file events
            self.why = getattr(error, "strerror", None) or str(error)
            return False
        self._observer = observer
        return True

    @property
    def listening(self) -> bool:
        """True while all watches work: a watch that exceeds the system's limit ends silently."""
        observer = self._observer
        return observer is not None and observer.is_alive() and all(each.is_alive() for each in observer.emitters)

    def end(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def _on_event(self, event: Any) -> None:
        if event.event_type == "closed":
            self._on_file_event(os.fsdecode(event.src_path), closed=True)
        elif event.event_type in WRITTEN:
            self._on_file_event(os.fsdecode(event.src_path), closed=False)
            if target := getattr(event, "dest_path", ""):
                self._on_file_event(
                    os.fsdecode(target), closed=True
                )  # a file written elsewhere is renamed when it is complete


def listen(folder: Path, on_event: FileEvents, say: Callable[[str], None]) -> FileEventSource:
    """Return the event source of the folder; an obstacle is reported."""
    made = FileEventSource(on_event)
    if not made.listen(folder):
        say(f"the system reports no changes in {folder} ({made.why}): it is scanned every few seconds")
    return made
