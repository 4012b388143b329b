"""Drives a session as a world would: every command gets a fitting or an unfitting answer, in any order, at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank
from supervisor.core.instant import Instant
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.rollback import Rollback
from supervisor.core.session import FINAL, Config, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

MINE = Rank(3, "mine")


@dataclass
class Moment:
    """One decision: what was, what came, what followed."""

    before: Session
    event: ev.Event
    now: Instant
    after: Session
    commands: tuple[do.Command, ...]


@dataclass
class World:
    """Answers commands at random, mostly well. ``badness`` is the share of answers that are failures."""

    chance: Random
    badness: float = 0.2
    due: list[ev.Event] = field(default_factory=list)
    staged: int = 0
    step: int = 0

    def hear(self, command: do.Command) -> None:
        """Prepare the answer to a command."""
        self.due.extend(self._answers(command))

    def _answers(self, command: do.Command) -> list[Any]:  # noqa: C901, PLR0911, PLR0912, because it is a table of answers
        bad = self.chance.random() < self.badness
        match command:
            case do.Look():
                return [ev.Looked((str(MINE),) if not bad else (str(Rank(9, "rival")),))]
            case do.WriteClaim():
                return [ev.ClaimWritten(MINE)]
            case do.PrepareEnvironment():
                return (
                    [ev.SetupFailed("no wheels", "connect", 3)]
                    if bad and self.badness > 0.5
                    else [ev.EnvironmentReady(1.0)]
                )
            case do.ReadHistory():
                return [ev.HistoryRead((40000.0, 39000.0), (40000.0, 39000.0), 2, 1)]
            case do.Restore():
                rolled = (Rollback(Rank(1, "old"), 40, 45, 40, 46, 1),) if self.chance.random() < 0.3 else ()
                return [ev.CheckpointReady("/r", CheckpointId(2, 50, "old", 1), not bad, adopted=bad, rolled=rolled)]
            case do.Launch():
                return [ev.Launched(7)]
            case do.Tell(messages.Save()):
                return [] if bad else [ev.TrainerSaid(self._staging())]
            case do.Tell(messages.Stop()):
                return [] if bad else [ev.TrainerSaid(self._staging()), ev.TrainerExited(0)]
            case do.LookAtTrainer():
                return [ev.TrainerSeen(0.0 if bad else 1e9)]
            case do.EndTrainer():
                return [] if bad else [ev.TrainerExited(-9)]
            case do.Publish():
                id_ = CheckpointId(3, command.step, "mine", 1)
                failed = ev.PublishFailed(command.folder, "disk full", hopeless=self.chance.random() < 0.2)
                return (
                    [failed]
                    if bad
                    else [ev.Submitted(command.folder, id_, 9), ev.Durable(command.folder, id_, 9, 3.0, "fsync")]
                )
            case do.Retain():
                return [ev.RetainFailed("EIO")] if bad else [ev.Retained((), 0)]
            case do.LookAtFence():
                return [ev.FenceUnreadable("EIO")] if bad else [ev.FenceSeen((str(MINE),))]
            case do.WriteJournal():
                return [ev.JournalFailed("EIO")] if bad else [ev.JournalWritten()]
            case do.WriteRollback():
                return [ev.RollbackWritten("EIO" if bad else "")]
            case do.WriteEnd():
                return [ev.EndWritten("EIO" if bad else "")]
        return []

    def _staging(self) -> messages.Staged:
        self.staged += 1
        return messages.Staged(self.step, f"/s/step-{self.staged}", 9, "due", 0.2, 0.5)

    def next(self, session: Session) -> tuple[float, ev.Event]:
        """Return how long after the last event the next one comes, and what it is."""
        chance, wait_s = self.chance, next_wakeup(session) - session.seen_s
        if self.due and chance.random() < 0.6:
            return chance.random() * wait_s, self.due.pop(0 if chance.random() < 0.9 else -1)
        roll = chance.random()
        if session.trainer.alive and roll < 0.4:
            return chance.random() * wait_s, self._beat()
        if roll < 0.41:
            return wait_s + 500.0, ev.Woke()
        if roll < 0.43:
            return 0.0, self._surprise(alive=session.trainer.alive)
        return wait_s, ev.Woke()

    def _beat(self) -> ev.Event:
        chance = self.chance
        self.step += chance.choice([0, 1, 20])
        if chance.random() < 0.02:
            kind, fine = chance.choice(["nan", "spike"]), chance.choice([None, max(0, self.step - 2)])
            return ev.TrainerSaid(messages.Trouble(max(0, self.step - 1), "loss", "nan", kind, fine))
        section = chance.choice(["step", "eval", "save"])
        return ev.TrainerSaid(messages.Beat(self.step, section, 900, None, 0.5, {"step": 1.0}, {"step": 0.9}))

    def _surprise(self, *, alive: bool) -> ev.Event:
        surprises = [
            ev.FenceSeen((str(Rank(4, "next")), str(MINE))),
            ev.Signalled("SIGINT"),
            ev.Notice(60.0, "spot"),
            ev.FenceSeen((str(MINE),), "save"),
        ]
        deaths = [ev.TrainerExited(code, oom=code == -9) for code in (1, -9, -11, 0)] if alive else []
        return self.chance.choice([*surprises, *deaths])


def life(seed: int, config: Config, moments: int = 400) -> Iterator[Moment]:
    """Yield the decisions of one session until some moments after its end."""
    world, session = World(Random(seed), badness=Random(seed).choice([0.0, 0.1, 0.4])), Session(config)
    now, event, after_end = Instant(1000.0, 7.0), ev.Started(), 3
    for _ in range(moments):
        after, commands = decide(session, event, now)
        yield Moment(session, event, now, after, commands)
        session = after
        for command in commands:
            world.hear(command)
        after_end -= session.phase in FINAL
        if not after_end:
            return
        wait_s, event = world.next(session)
        now = now.later(wait_s)
