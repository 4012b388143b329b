"""One session after the other in one process: what the next one is given of what was before it."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING

from supervisor.core.policy.rollback import ROLLED_BACK
from supervisor.core.session import events as ev
from supervisor.core.session.state import Config, Phase, Session
from supervisor.engine.loop import EventQueue

if TYPE_CHECKING:
    from supervisor.core.ports import Clock

_OF_THE_WORLD = (ev.SignalReceived, ev.PreemptionNotice, ev.MachineDetected)


class EventRouter:
    """What reaches this process from outside goes in here, and into the inbox of the session that is served now."""

    def __init__(self) -> None:
        self.inbox = EventQueue()
        self._lock = RLock()  # reentrant: a signal handler may interrupt its holder and take it too

    def __call__(self, event: ev.Event) -> None:
        """Pass an event on."""
        with self._lock:
            self.inbox(event)

    def next(self) -> EventQueue:
        """Return the inbox of a new session. What its predecessor has not heard of the world it hears first."""
        with self._lock:
            before, self.inbox = self.inbox, EventQueue()
            for event in before.left():
                if isinstance(event, _OF_THE_WORLD):
                    self.inbox(event)
            return self.inbox


def follows(session: Session) -> bool:
    """Say whether this session ended only to go on from an older checkpoint, in this very process."""
    ending = session.ending
    return session.phase is Phase.HANDED_OVER and ending is not None and ending.reason == ROLLED_BACK


def following(config: Config, began_s: float, clock: Clock) -> Config:
    """Return the configuration of the next session of a process that began with ``config`` at ``began_s``."""
    lived_s = clock.now().mono_s - began_s
    return replace(config, resume="auto", takeover=False, safe_visibility_delay_s=0.0, age_s=config.age_s + lived_s)
