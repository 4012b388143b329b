"""Starts watchdog's observers. Imports watchdog when the first one starts, and on one thread at a time.

``watchdog.observers`` and ``watchdog.observers.inotify`` import each other. Python ends one of two threads that import them at
the same moment with a ``_DeadlockError``. The fence's watch and the watch of a script's files start at the same moment.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_importing = Lock()


def observe(folder: str, *, recursive: bool = False, **callbacks: Callable[[Any], None]) -> Any:
    """Return a started observer of a folder.

    Args:
        folder: an existing folder.
        recursive: observe its subfolders too.
        callbacks: methods of watchdog's ``FileSystemEventHandler`` by name, such as ``on_created``.

    Raises:
        OSError: the system has no watch left.
        ImportError: the system has no file events.
        AttributeError: watchdog's error on a C library without inotify.
    """
    with _importing:
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers.inotify import InotifyObserver

    # Without a handler the library prints to stderr if its thread ends during a check.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    handler = FileSystemEventHandler()
    for name, callback in callbacks.items():
        setattr(handler, name, callback)
    observer = InotifyObserver()
    observer.schedule(handler, folder, recursive=recursive)
    observer.start()
    return observer
