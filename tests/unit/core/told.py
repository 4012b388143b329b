"""A session told event by event, for tests that read as stories."""

from __future__ import annotations

from supervisor.core.clock import Instant
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import Config, Session
from supervisor.core.session.state_machine import decide, next_wakeup
from supervisor.core.wire.messages import Finished, Heartbeat
from tests.unit.core.driven import MINE

HERE = (str(MINE),)
DONE = (ev.TrainerMessage(Finished(900)), ev.TrainerExited(0))


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
        return self(ev.TimerFired(), after_s=next_wakeup(self.session) - self.now.mono_s)

    def until(self, kind: type) -> Told:
        """Wake until something of this kind is commanded; the store answers all the while."""
        for _ in range(1000):
            if self.wake().asked(kind):
                return self
            commands = self.commands
            if do.CheckFence() in commands:
                self(ev.FenceChecked(HERE))
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
    told = Told(config)(ev.SessionStarted(), ev.RunInspected(()), ev.ClaimWritten(MINE)).wake()
    return told(ev.RunInspected(HERE), ev.EnvironmentReady(1.0), ev.HistoryRead())


def running(config: Config | None = None) -> Told:
    """Return a session whose trainer steps."""
    return claimed(config)(
        ev.CheckpointReady("", None), ev.TrainerStarted(7), ev.TrainerMessage(Heartbeat(0, "step", 900))
    )
