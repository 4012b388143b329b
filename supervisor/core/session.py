"""A session's whole state: one machine's turn at a run, as one frozen value that only ``machine.decide`` replaces."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from supervisor.core import interval, liveness, recovery
from supervisor.core.deadline import Lifetime, expected
from supervisor.core.events import HistoryRead
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.claim import Rank
    from supervisor.core.messages import Finished
    from supervisor.core.rollback import Rollback


class Phase(StrEnum):
    """Where a session is. The last five are final."""

    __hash__ = str.__hash__  # because the one of Enum runs in Python, several times for each event

    STARTING = "STARTING"
    RESTORING = "RESTORING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    DRAINING = "DRAINING"
    SUCCEEDED = "SUCCEEDED"
    HANDED_OVER = "HANDED_OVER"
    FENCED = "FENCED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FINAL = frozenset({Phase.SUCCEEDED, Phase.HANDED_OVER, Phase.FENCED, Phase.FAILED, Phase.CANCELLED})


class Value:
    """A frozen dataclass that is replaced at every event of a run of weeks, and so does it ten times as fast."""

    def with_(self, **changes: Any) -> Self:
        """Return a copy with these fields changed, as ``dataclasses.replace`` does."""
        known = self.__dict__
        changed = known | changes
        if len(changed) != len(known):
            raise TypeError(f"no such fields: {sorted(changed.keys() - known.keys())}")
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", changed)
        return copy


@dataclass(frozen=True, slots=True)
class SaveEvery:
    """``unit`` "auto" (measured), "s" (every ``value`` seconds), "steps" or "ep" (the trainer counts by itself)."""

    unit: Literal["auto", "s", "steps", "ep"] = "auto"
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """What the user and the platform fixed for this session. Times in seconds.

    ``settle_s``: how long others' names may take to show; ``safe_settle_s``: what the store is known to need at least.
    ``silence_s``: how long without a sign until another session counts as gone; ``answer_s``: the same once it was asked
    for one, which it sees at its next look at the fence and answers at once. ``on_nan``, ``on_spike``: what follows a
    trouble that the trainer tells of; ``nan_rate``: what learning rates are multiplied by at each rollback.
    """

    save_every: SaveEvery = SaveEvery()
    restarts: recovery.Policy = recovery.Policy()
    liveness: liveness.Policy = liveness.Policy()
    lifetime: Lifetime | None = None
    age_s: float = 0.0
    resume: Literal["auto", "must", "never"] = "auto"
    takeover: bool = False
    settle_s: float = 0.0
    safe_settle_s: float = 0.0
    silence_s: float = 150.0
    answer_s: float = 50.0
    fence_every_s: float = 10.0
    journal_every_s: float = 60.0
    upload_wait_s: float = 600.0
    confirm_every_s: float = 0.0
    can_flush: bool = False
    place: str = ""
    prior_life_s: float = interval.LIFE_S_PRIOR
    on_nan: Literal["ignore", "stop", "rollback"] = "ignore"
    on_spike: Literal["ignore", "stop", "rollback"] = "ignore"
    nan_rate: float = 1.0


@dataclass(frozen=True)
class Trainer(Value):
    """The current attempt: its number, whether it lives, what it last said. ``cpu_s``: as when it was last looked at.

    ``said`` is (kind, words) of how it failed and ``mark`` tells that place again. ``finished``: its script came to the
    normal end; ``ended_at_s``: since when. ``attached``: the script counts its own steps, of ``total_steps``.
    Not ``asked``: nobody can ask it for a save. ``anew``: its script read nothing of what was put back.
    """

    attempt: int = 0
    alive: bool = False
    step: int | None = None
    step_s: float = 0.0
    vitals: liveness.Vitals = liveness.Vitals()
    said: tuple[str, str] | None = None
    cpu_s: float = 0.0
    hung: bool = False
    mark: str = ""
    attached: bool = False
    total_steps: int | None = None
    finished: Finished | None = None
    ended_at_s: float = 0.0
    asked: bool = True
    anew: bool = False


@dataclass(frozen=True)
class Saves(Value):
    """Checkpoints of this session between the trainer and the store.

    ``newest`` is the newest staged folder (kept on the local disk for a restart), ``publishing`` the one on its way,
    ``waiting`` the newest that comes after it. At most these three exist. ``lost`` is why the last save failed.
    ``submitted_at_s``: since when the one on its way is written and not proved; ``warn_at_s``: when to say so next.
    ``unproved``: the newest that is written, manifest and all, to a store that can never prove it. ``inherited``: what a
    dead session wrote and the run went on from, if its proof was still to be asked for.
    ``counted``: the steps of the newest were counted by somebody.
    """

    newest: str = ""
    newest_step: int | None = None
    publishing: str = ""
    waiting: str = ""
    waiting_step: int = 0
    durable: CheckpointId | None = None
    asked: bool = False
    lost: str = ""
    last_at_s: float = 0.0
    failures: int = 0
    stall_s: float = 0.0
    write_s: float = 0.0
    slow_s: float = 0.0
    upload_s: float = 0.0
    submitted_at_s: float | None = None
    warn_at_s: float = 0.0
    unproved: str = ""
    counted: bool = True
    inherited: str = ""


@dataclass(frozen=True)
class Timers(Value):
    """When something is due, in monotonic seconds; None is never."""

    look: float | None = None
    retry: float | None = None
    save: float | None = None
    fence: float | None = None
    journal: float | None = None
    publish: float | None = None
    confirm: float | None = None
    terminate: float | None = None
    kill: float | None = None
    give_up_waiting: float | None = None
    drain: float | None = None
    leave: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How the session is going to end once the trainer is gone and the uploads are through.

    ``words`` say what happened; ``hint`` what a person can do about it, where the phase is FAILED.
    """

    phase: Phase
    exit_code: int
    reason: str
    words: str
    wait_for_uploads: bool = True
    end_asked: bool = False
    flush_asked: bool = False
    waiting_said: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Session(Value):
    """The state that decides. ``seen_s`` is the time of the last event; ``frozen`` means: publish and delete nothing.

    ``frozen_at_s``: since when; what was seen sooner than the store's settle time after it may be stale. ``dark`` is the
    kind of the error with which the store does not answer ("" it does), ``dark_since_s`` since when.
    ``failed_at`` tells where the last attempt failed, ``failed_same`` how often in a row that was there without a new step,
    ``farthest`` the step that any attempt has come to. ``base_step`` is the step of the script's own files that the attempt was
    given, None for none; ``failed_steps`` how many steps the last failed attempt had made itself.
    ``rolled``: the rollbacks that hold for this session; ``passed``: its first DURABLE step beyond the last of them;
    ``rollback``: its own, and ``recorded`` whether the store has that.
    """

    config: Config
    phase: Phase = Phase.STARTING
    rank: Rank | None = None
    started_s: float = 0.0
    seen_s: float = 0.0
    trainer: Trainer = Trainer()
    saves: Saves = Saves()
    timers: Timers = Timers()
    history: HistoryRead = HistoryRead()
    ending: Ending | None = None
    settled: bool = False
    preparing: bool = False
    environment_ready: bool = False
    checkpoint: str | None = None
    resumed_step: int = 0
    failures: int = 0
    progress_step: int = 0
    recoveries: int = 0
    failed_at: str = ""
    failed_same: int = 0
    farthest: int = 0
    base_step: int | None = None
    failed_steps: int = 0
    cause: str = ""
    drained: bool = False
    frozen: bool = False
    frozen_at_s: float = 0.0
    dark: str = ""
    dark_since_s: float = 0.0
    rival_signs: tuple[Rank, int] | None = None
    rival_since_s: float = 0.0
    knocking: bool = False
    knocked_s: float | None = None
    answered: int = 0
    rolled: tuple[Rollback, ...] = ()
    passed: int | None = None
    rollback: Rollback | None = None
    recorded: bool = False

    def timed(self, **timers: float | None) -> Session:
        """Return a copy with these timers changed."""
        return self.with_(timers=self.timers.with_(**timers))


def unproved(session: Session) -> bool:
    """Say whether this machine may hold what is safe nowhere else."""
    saves = session.saves
    return bool(saves.publishing or saves.waiting or saves.unproved) or session.phase is Phase.FAILED


def lifetime_end(session: Session) -> float | None:
    """Return when this machine is expected to end, in monotonic seconds, or None."""
    life = expected(session.config.lifetime, session.history.reclaimed_s)
    return None if life is None else session.started_s + life.seconds - session.config.age_s


def save_interval(session: Session) -> interval.Interval | None:
    """Return the interval between saves in force, or None where the trainer counts steps by itself or cannot be asked."""
    if not session.trainer.asked:
        return None
    unit, value = session.config.save_every.unit, session.config.save_every.value
    saves = session.saves
    if unit == "auto":
        life_s = interval.mean_life(session.history.lives_s, session.history.lost, prior_s=session.config.prior_life_s)
        return interval.best(saves.stall_s + saves.slow_s, max(saves.upload_s, saves.write_s), life_s)
    if unit == "s":
        lost_s = saves.stall_s + saves.slow_s
        return interval.Interval(value, value / 2 + saves.upload_s, lost_s / (value + lost_s) if value else 0.0)
    return None
