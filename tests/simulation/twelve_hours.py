"""Twelve hours of one session in virtual time: beats, looks at the fence, journals, saves, the drain, and who comes after.

Nothing but decide and next_wakeup runs here; everything a machine would answer comes after a fixed virtual latency.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import count

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.checkpoint.session_id import SessionId
from supervisor.core.clock import Instant
from supervisor.core.policy.deadline import TimeLimit
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import FINAL, Config, Session
from supervisor.core.session.state_machine import decide, next_wakeup
from supervisor.core.wire import messages

TWELVE_H_S = 43200.0
BEAT_S = 45.0
STEP_S = 0.5
WOKE = ev.TimerFired()
MINE = SessionId(3, "mine")


@dataclass
class Day:
    """One session. ``taken_over_at_s``: when a look at the fence first shows a successor."""

    hard: bool
    taken_over_at_s: float | None = None
    mine: SessionId = MINE
    began_s: float = 1001.0
    events: int = 0
    saves: int = 0
    done: list[do.Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = Config(
            time_limit=TimeLimit(TWELVE_H_S, hard=self.hard),
            fence_every_s=60.0,
            journal_every_s=60.0,
            visibility_delay_s=60.0,
        )
        self.session = Session(config)
        self.durable: CheckpointId | None = None
        self._numbers = count()
        self._inbox: list[tuple[float, int, ev.Event]] = [(self.began_s, -1, ev.SessionStarted())]
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
            case do.CheckFence():
                fallen = self.taken_over_at_s is not None and at >= self.began_s + self.taken_over_at_s
                self._later(
                    at + 0.2, ev.FenceChecked((str(self.mine), "e00000004-next") if fallen else (str(self.mine),))
                )
            case do.WriteJournal():
                self._later(at + 0.2, ev.JournalWritten())
            case do.InspectRun():
                self._later(at, ev.RunInspected((str(self.mine),) if self.session.session_id else ()))
            case do.WriteClaim():
                self._later(at, ev.ClaimWritten(self.mine))
            case do.PrepareEnvironment():
                self._later(at + 30, ev.EnvironmentReady(30.0))
            case do.ReadHistory():
                self._later(at, ev.HistoryRead((41000.0, 42000.0), (41000.0, 42000.0), 2))
            case do.FetchCheckpoint():
                self._later(at + 5, ev.CheckpointReady("/r", CheckpointId(2, 100, "old", 1)))
            case do.StartTrainer():
                self._launch(at)
            case do.SendToTrainer(messages.SaveRequest()):
                self._later(at + 1, ev.TrainerMessage(self._staged(at + 1)))
            case do.SendToTrainer(messages.StopRequest()):
                self._later(at + 1, ev.TrainerMessage(self._staged(at + 1)))
                self._beat_at_s = math.inf
                self._later(at + 2, ev.TrainerExited(0))
            case do.SignalTrainer():
                self._beat_at_s = math.inf
                self._later(at + 1, ev.TrainerExited(-9))
            case do.UploadCheckpoint():
                id_ = CheckpointId(3, command.step, "mine", self.saves)
                self.durable = id_
                self._later(at + 20, ev.CheckpointWritten(command.folder, id_, 10**9))
                self._later(at + 30, ev.CheckpointDurable(command.folder, id_, 10**9, 30.0, "client"))
            case do.Prune():
                self._later(at + 1, ev.Pruned((), 0))
            case do.RecordSessionEnd():
                self._later(at + 1, ev.SessionEndRecorded())
        if isinstance(command, do.RecordSessionEnd | do.UploadCheckpoint | do.SignalTrainer):
            self.done.append(command)

    def _launch(self, at: float) -> None:
        self._later(at, ev.TrainerStarted(7))
        self._launched_s = at
        self._beat_at_s = at + BEAT_S

    def _beat(self) -> ev.Event:
        lived_s = self._beat_at_s - self._launched_s
        self._beat_at_s += BEAT_S
        metrics: dict[str, messages.Scalar] = {"loss": 1.0 / lived_s}
        step = 100 + int(lived_s / STEP_S)
        return ev.TrainerMessage(
            messages.Heartbeat(step, "step", 10**6, None, STEP_S, {"step": lived_s}, {"step": 0.8}, metrics)
        )

    def _staged(self, at: float) -> messages.CheckpointStaged:
        self.saves += 1
        step = 100 + int((at - self.began_s) / STEP_S)
        return messages.CheckpointStaged(step, f"/s/step-{step}", 10**9, "due", 2.0, 5.0)

    def _later(self, at: float, event: ev.Event) -> None:
        heapq.heappush(self._inbox, (at, next(self._numbers), event))
