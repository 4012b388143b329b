"""Imports watchdog, whose import takes too long for a start without file events, on one thread at a time.

``watchdog.observers`` and ``watchdog.observers.inotify`` import each other. Python ends one of two threads that import them at
the same moment with a ``_DeadlockError``. So the fence's watch and the watch of a script's files import them here.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import Any

_importing = Lock()


def handler_and_observer() -> tuple[type[Any], type[Any]]:
    """Return the handler class and the observer class of this system.

    Raises:
        ImportError: the system has no file events, or watchdog does not know them.
        AttributeError: as ImportError; watchdog's own error on a C library without inotify.
    """
    with _importing:
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers.inotify import InotifyObserver

    # Without a handler the library prints to stderr if its thread ends during a check.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    return FileSystemEventHandler, InotifyObserver
