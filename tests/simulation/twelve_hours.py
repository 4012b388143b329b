"""Twelve hours of one session in virtual time: beats, looks at the fence, journals, saves, the drain, and who comes after.

Nothing but decide and next_wakeup runs here; everything a machine would answer comes after a fixed virtual latency.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import count

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank
from supervisor.core.deadline import Lifetime
from supervisor.core.instant import Instant
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.session import FINAL, Config, Session

TWELVE_H_S = 43200.0
BEAT_S = 45.0
STEP_S = 0.5
WOKE = ev.Woke()
MINE = Rank(3, "mine")


@dataclass
class Day:
    """One session. ``taken_over_at_s``: when a look at the fence first shows a successor."""

    hard: bool
    taken_over_at_s: float | None = None
    mine: Rank = MINE
    began_s: float = 1001.0
    events: int = 0
    saves: int = 0
    done: list[do.Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = Config(
            lifetime=Lifetime(TWELVE_H_S, hard=self.hard), fence_every_s=60.0, journal_every_s=60.0, settle_s=60.0
        )
        self.session = Session(config)
        self.durable: CheckpointId | None = None
        self._numbers = count()
        self._inbox: list[tuple[float, int, ev.Event]] = [(self.began_s, -1, ev.Started())]
        self._launched_s = self._beat_at_s = math.inf

    @property
    def age_s(self) -> float:
        """How old the session is."""
        return self.session.seen_s - self.began_s

    def live(self) -> Day:
        """Go on until the session ends, or the machine does."""
        session, inbox, ends_s = self.session, self._inbox, self.began_s + TWELVE_H_S
        wall_s = 1.7e9 - self.began_s
        while session.phase not in FINAL:
            wake_s = next_wakeup(session)
            if inbox and inbox[0][0] <= min(wake_s, self._beat_at_s):
                at, _, event = heapq.heappop(inbox)
            elif self._beat_at_s <= wake_s:
                at, event = self._beat_at_s, self._beat()
            else:
                at, event = wake_s, WOKE
            if at >= ends_s:
                break
            self.events += 1
            session, commands = decide(session, event, Instant(at, wall_s + at))
            for command in commands:
                self._answer(at, command)
        self.session = session
        return self

    def _answer(self, at: float, command: do.Command) -> None:  # noqa: C901, PLR0912, because it is a table of answers
        match command:
            case do.LookAtFence():
                fallen = self.taken_over_at_s is not None and at >= self.began_s + self.taken_over_at_s
                self._later(at + 0.2, ev.FenceSeen((str(self.mine), "e00000004-next") if fallen else (str(self.mine),)))
            case do.WriteJournal():
                self._later(at + 0.2, ev.JournalWritten())
            case do.Look():
                self._later(at, ev.Looked((str(self.mine),) if self.session.rank else ()))
            case do.WriteClaim():
                self._later(at, ev.ClaimWritten(self.mine))
            case do.PrepareEnvironment():
                self._later(at + 30, ev.EnvironmentReady(30.0))
            case do.ReadHistory():
                self._later(at, ev.HistoryRead((41000.0, 42000.0), (41000.0, 42000.0), 2))
            case do.Restore():
                self._later(at + 5, ev.CheckpointReady("/r", CheckpointId(2, 100, "old", 1)))
            case do.Launch():
                self._launch(at)
            case do.Tell(messages.Save()):
                self._later(at + 1, ev.TrainerSaid(self._staged(at + 1)))
            case do.Tell(messages.Stop()):
                self._later(at + 1, ev.TrainerSaid(self._staged(at + 1)))
                self._beat_at_s = math.inf
                self._later(at + 2, ev.TrainerExited(0))
            case do.EndTrainer():
                self._beat_at_s = math.inf
                self._later(at + 1, ev.TrainerExited(-9))
            case do.Publish():
                id_ = CheckpointId(3, command.step, "mine", self.saves)
                self.durable = id_
                self._later(at + 20, ev.Submitted(command.folder, id_, 10**9))
                self._later(at + 30, ev.Durable(command.folder, id_, 10**9, 30.0, "client"))
            case do.Retain():
                self._later(at + 1, ev.Retained((), 0))
            case do.WriteEnd():
                self._later(at + 1, ev.EndWritten())
        if isinstance(command, do.WriteEnd | do.Publish | do.EndTrainer):
            self.done.append(command)

    def _launch(self, at: float) -> None:
        self._later(at, ev.Launched(7))
        self._launched_s = at
        self._beat_at_s = at + BEAT_S

    def _beat(self) -> ev.Event:
        lived_s = self._beat_at_s - self._launched_s
        self._beat_at_s += BEAT_S
        metrics: dict[str, messages.Scalar] = {"loss": 1.0 / lived_s}
        step = 100 + int(lived_s / STEP_S)
        return ev.TrainerSaid(
            messages.Beat(step, "step", 10**6, None, STEP_S, {"step": lived_s}, {"step": 0.8}, metrics)
        )

    def _staged(self, at: float) -> messages.Staged:
        self.saves += 1
        step = 100 + int((at - self.began_s) / STEP_S)
        return messages.Staged(step, f"/s/step-{step}", 10**9, "due", 2.0, 5.0)

    def _later(self, at: float, event: ev.Event) -> None:
        heapq.heappush(self._inbox, (at, next(self._numbers), event))
