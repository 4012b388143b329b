"""A session told event by event, for tests that read as stories."""

from __future__ import annotations

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.instant import Instant
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.messages import Beat, Finished
from supervisor.core.session import Config, Session
from tests.unit.core.driven import MINE

HERE = (str(MINE),)
DONE = (ev.TrainerSaid(Finished(900)), ev.TrainerExited(0))


class Told:
    """``told(event, ...)`` lets things happen; ``told.commands`` is what followed from them."""

    def __init__(self, config: Config | None = None) -> None:
        self.session, self.now = Session(config or Config()), Instant(1000.0, 5.0)
        self.commands: list[do.Command] = []

    def __call__(self, *happened: ev.Event, after_s: float = 0.0) -> Told:
        """Let these events happen, now or later."""
        self.now = self.now.later(after_s)
        self.commands = []
        for event in happened:
            self.session, commands = decide(self.session, event, self.now)
            self.commands += commands
        return self

    def wake(self) -> Told:
        """Let the time pass until the session wants to be woken."""
        return self(ev.Woke(), after_s=next_wakeup(self.session) - self.now.mono_s)

    def until(self, kind: type) -> Told:
        """Wake until something of this kind is commanded; the store answers all the while."""
        for _ in range(1000):
            if self.wake().asked(kind):
                return self
            commands = self.commands
            if do.LookAtFence() in commands:
                self(ev.FenceSeen(HERE))
            if do.WriteJournal() in commands:
                self(ev.JournalWritten())
            if self.asked(kind):
                return self
        raise AssertionError(f"no {kind.__name__} was ever commanded")

    def asked(self, kind: type) -> list:
        """Return the last commands of a kind."""
        return [each for each in self.commands if isinstance(each, kind)]


def claimed(config: Config | None = None) -> Told:
    """Return a session that has claimed and settled, and knows its history."""
    told = Told(config)(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    return told(ev.Looked(HERE), ev.EnvironmentReady(1.0), ev.HistoryRead())


def running(config: Config | None = None) -> Told:
    """Return a session whose trainer steps."""
    return claimed(config)(ev.CheckpointReady("", None), ev.Launched(7), ev.TrainerSaid(Beat(0, "step", 900)))
