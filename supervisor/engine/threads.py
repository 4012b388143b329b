"""Threads of the supervisor, on a machine that may allow no more of them: what can do without goes on, all else ends by name."""

from __future__ import annotations

import errno
import traceback
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.errors import FAILED_PRECHECKS, NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = "can't start new thread"  # all that Python says of it


def start(act: Callable[[], object], name: str) -> Thread | None:
    """Run on a daemon thread of its own; None where there can be no more, for what one can do without."""
    thread = Thread(target=act, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if exhausted(error):
            return None
        raise
    return thread


def exhausted(error: BaseException) -> bool:
    """Say whether this is how the system refuses another thread or process."""
    if isinstance(error, OSError):
        return error.errno == errno.EAGAIN
    return isinstance(error, RuntimeError) and REFUSED in str(error)


def no_more() -> UserError:
    """Return the two lines that say so."""
    return UserError(NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT, FAILED_PRECHECKS)


def defect(error: BaseException) -> ev.ControllerFailed:
    """Return the event that ends the session by an error that nobody caught; for a refused thread with its own words."""
    told = "".join(traceback.format_exception(error))
    if exhausted(error):
        return ev.ControllerFailed(told, NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT, FAILED_PRECHECKS)
    return ev.ControllerFailed(told)
