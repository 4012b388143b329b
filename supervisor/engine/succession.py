"""One session after the other in one process: what the next one is given of what was before it."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.rollback import ROLLED_BACK
from supervisor.core.session import Config, Phase, Session
from supervisor.engine.loop import Inbox

if TYPE_CHECKING:
    from supervisor.core.ports import Clock

_OF_THE_WORLD = (ev.Signalled, ev.Notice, ev.MachineSeen)


class Door:
    """What reaches this process from outside goes in here, and into the inbox of the session that is served now."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self._passing = RLock()  # which a signal's handler may take that interrupts its holder

    def __call__(self, event: ev.Event) -> None:
        """Pass an event on."""
        with self._passing:
            self.inbox(event)

    def next(self) -> Inbox:
        """Return the inbox of a new session. What its predecessor has not heard of the world it hears first."""
        with self._passing:
            before, self.inbox = self.inbox, Inbox()
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
    return replace(config, resume="auto", takeover=False, safe_settle_s=0.0, age_s=config.age_s + lived_s)
