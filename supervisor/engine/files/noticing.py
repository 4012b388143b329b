"""Hears from the system what is written in a folder. Where it does not tell, the folder is looked at every few seconds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.engine import file_events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITTEN = frozenset({"created", "modified", "moved", "deleted"})


class Told(Protocol):
    """Gets what happened to an absolute path: ``closed`` by who wrote into it, or else touched in some way."""

    def __call__(self, path: str, *, closed: bool) -> None: ...


class Noticing:
    """Looks after one folder and all in it. ``listening`` is False where the system does not tell, and ``why`` says why."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._observer: Any = None
        self.why = ""

    def begin(self, folder: Path) -> bool:
        """Listen to a folder that is there; False if the system has no such way, or no more room for it."""
        try:
            self._observer = file_events.observe(os.fspath(folder), recursive=True, on_any_event=self._happened)
        except (OSError, ImportError, AttributeError) as error:  # what a system without it lacks
            self.why = getattr(error, "strerror", None) or str(error)
            return False
        return True

    @property
    def listening(self) -> bool:
        """Whether all of it still works: a watch that one folder more is too many for ends without a word."""
        observer = self._observer
        return observer is not None and observer.is_alive() and all(each.is_alive() for each in observer.emitters)

    def end(self) -> None:
        """Listen no more."""
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def _happened(self, event: Any) -> None:
        if event.event_type == "closed":
            self._told(os.fsdecode(event.src_path), closed=True)
        elif event.event_type in WRITTEN:
            self._told(os.fsdecode(event.src_path), closed=False)
            if target := getattr(event, "dest_path", ""):
                self._told(os.fsdecode(target), closed=True)  # what is written elsewhere is renamed when it is whole


def begin(folder: Path, told: Told, say: Callable[[str], None]) -> Noticing:
    """Return who listens to the folder; what stands in the way is said."""
    made = Noticing(told)
    if not made.begin(folder):
        say(f"the system does not tell of changes in {folder} ({made.why}): it is looked at every few seconds")
    return made
