"""The owner thread: wait for an event or the wake-up time, decide, execute. Everybody else only writes into the inbox."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import errors
from supervisor.core import events as ev
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.session import FINAL, Session
from supervisor.engine.threads import defect

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Clock
    from supervisor.engine.journal import Journal

WAIT_S_MAX = 3600.0


class Inbox:
    """Where every thread and signal handler puts what happened (SimpleQueue.put is safe inside a signal handler)."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[ev.Event] = SimpleQueue()

    def __call__(self, event: ev.Event) -> None:
        """Put an event in."""
        self._queue.put(event)

    def wait(self, seconds: float) -> ev.Event:
        """Return the next event, or Woke when the time is over."""
        try:
            return self._queue.get(timeout=min(max(0.0, seconds), WAIT_S_MAX))
        except Empty:
            return ev.Woke()

    def left(self) -> list[ev.Event]:
        """Return what nobody will hear here any more."""
        left: list[ev.Event] = []
        try:
            while True:
                left.append(self._queue.get_nowait())
        except Empty:
            return left


class Loop:
    """Runs one session to its end. ``watch`` sees every record (events and commands) with the journal's status."""

    def __init__(self, session: Session, clock: Clock, inbox: Inbox, journal: Journal) -> None:
        self.session, self.clock, self.inbox, self.journal = session, clock, inbox, journal
        self._failed = False

    def run(self, execute: Callable[[do.Command], None], watch: Callable[[Instant, Any], None]) -> int:
        """Go until a final phase; return the exit code."""
        event: ev.Event = ev.Started()
        while True:
            now = self.clock.now()
            self.journal.record(now, event)
            watch(now, event)
            self.session, commands = decide(self.session, event, now)
            for command in commands:
                self.journal.record(now, command)
                self._do(execute, command)
                watch(now, command)
            if self.session.phase in FINAL:
                ending = self.session.ending
                return ending.exit_code if ending else errors.FAILED
            event = self.inbox.wait(next_wakeup(self.session) - self.clock.now().mono_s)

    def _do(self, execute: Callable[[do.Command], None], command: do.Command) -> None:
        """Do it; an error that nobody caught ends the session by name, unless one has before: then even that fails."""
        try:
            execute(command)
        except Exception as error:
            if self._failed:
                raise
            self._failed = True
            self.inbox(defect(error))
