"""What reaches a session from outside: signals, notices of the platform, defects of its own threads."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from supervisor.core import events as ev
from supervisor.engine import threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Platform

    Inbox = Callable[[ev.Event], None]

_PEOPLES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen_to_signals(inbox: Inbox, platform: Platform) -> None:
    """Put signals into the inbox: of people, and of a platform that announces so that it ends the machine."""

    def heard(number: int, _frame: Any) -> None:
        name = signal.Signals(number).name
        within_s = platform.signals.get(name)
        told = ev.Signalled(name) if within_s is None else ev.Notice(within_s, f"{name} from {platform.title}")
        inbox(told)

    announced = [signal.Signals[name] for name in platform.signals]
    for number in dict.fromkeys((*_PEOPLES, *announced)):
        if number in announced or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, heard)


def listen_to_notices(inbox: Inbox, platform: Platform) -> threading.Event:
    """Have the platform's notices put into the inbox from a thread of its own, until the event is set that is returned."""
    over = threading.Event()
    listen = platform.listen
    if listen is not None and threads.start(lambda: listen(inbox, over.wait), "notices") is None:
        raise threads.no_more()
    return over


def report_defects(inbox: Inbox) -> None:
    """A thread that dies of a defect of ours ends the session in a named state: without it the loop would wait for ever."""

    def died(failed: threading.ExceptHookArgs) -> None:
        inbox(threads.defect(failed.exc_value or failed.exc_type()))

    threading.excepthook = died
