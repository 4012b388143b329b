"""A session's whole state: one machine's turn at a run, as one frozen value that only ``machine.decide`` replaces."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from supervisor.core.frozen import dataclass
from supervisor.core.policy import liveness, recovery
from supervisor.core.policy import save_interval as interval_policy
from supervisor.core.policy.deadline import TimeLimit, expected
from supervisor.core.session.events import HistoryRead

if TYPE_CHECKING:
    from supervisor.core.checkpoint.manifest import CheckpointId
    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.policy.rollback import Rollback
    from supervisor.core.wire.messages import Finished


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
class SaveSchedule:
    """``unit`` "auto" (measured), "s" (every ``value`` seconds), "steps" or "ep" (the trainer counts by itself)."""

    unit: Literal["auto", "s", "steps", "ep"] = "auto"
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """What the user and the platform fixed for this session. Times in seconds.

    ``visibility_delay_s``: how long others' names may take to show; ``safe_visibility_delay_s``: what the store is known to need at least.
    ``silence_s``: how long without a sign until another session counts as gone; ``probe_timeout_s``: the same once it was asked
    for one, which it sees at its next look at the fence and answers at once. ``on_nan``, ``on_spike``: what follows a
    trouble that the trainer tells of; ``rollback_lr_factor``: what learning rates are multiplied by at each rollback.
    """

    save_every: SaveSchedule = SaveSchedule()
    restarts: recovery.RetryPolicy = recovery.RetryPolicy()
    liveness: liveness.LivenessPolicy = liveness.LivenessPolicy()
    time_limit: TimeLimit | None = None
    age_s: float = 0.0
    resume: Literal["auto", "must", "never"] = "auto"
    takeover: bool = False
    visibility_delay_s: float = 0.0
    safe_visibility_delay_s: float = 0.0
    silence_s: float = 150.0
    probe_timeout_s: float = 50.0
    fence_every_s: float = 10.0
    journal_every_s: float = 60.0
    upload_wait_s: float = 600.0
    confirm_every_s: float = 0.0
    can_flush: bool = False
    place: str = ""
    prior_life_s: float = interval_policy.LIFE_S_PRIOR
    on_nan: Literal["ignore", "stop", "rollback"] = "ignore"
    on_spike: Literal["ignore", "stop", "rollback"] = "ignore"
    rollback_lr_factor: float = 1.0


@dataclass(frozen=True)
class TrainerState(Value):
    """The current attempt: its number, whether it lives, what it last said. ``cpu_s``: as when it was last looked at.

    ``failure`` is (kind, words) of how it failed and ``failure_place`` tells that place again. ``finished``: its script came to the
    normal end; ``finished_s``: since when. ``attached``: the script counts its own steps, of ``total_steps``.
    Not ``saves_on_request``: nobody can ask it for a save. ``ignored_restored_files``: its script read nothing of what was put back.
    """

    attempt: int = 0
    alive: bool = False
    step: int | None = None
    step_s: float = 0.0
    heartbeats: liveness.Heartbeats = liveness.Heartbeats()
    failure: tuple[str, str] | None = None
    cpu_s: float = 0.0
    hung: bool = False
    failure_place: str = ""
    attached: bool = False
    total_steps: int | None = None
    finished: Finished | None = None
    finished_s: float = 0.0
    saves_on_request: bool = True
    ignored_restored_files: bool = False


@dataclass(frozen=True)
class SaveProgress(Value):
    """Checkpoints of this session between the trainer and the store.

    ``newest`` is the newest staged folder (kept on the local disk for a restart), ``uploading`` the one on its way,
    ``next_upload`` the newest that comes after it. At most these three exist. ``save_error`` is why the last save failed.
    ``written_s``: since when the one on its way is written and not proved; ``pending_warning_s``: when to say so next.
    ``unconfirmed``: the newest that is written, manifest and all, to a store that can never prove it. ``inherited``: what a
    dead session wrote and the run went on from, if its proof was still to be asked for.
    ``step_known``: the steps of the newest were counted by somebody.
    """

    newest: str = ""
    newest_step: int | None = None
    uploading: str = ""
    next_upload: str = ""
    next_upload_step: int = 0
    durable: CheckpointId | None = None
    save_requested: bool = False
    save_error: str = ""
    last_at_s: float = 0.0
    failures: int = 0
    stall_s: float = 0.0
    write_s: float = 0.0
    slow_s: float = 0.0
    upload_s: float = 0.0
    written_s: float | None = None
    pending_warning_s: float = 0.0
    unconfirmed: str = ""
    step_known: bool = True
    inherited: str = ""


@dataclass(frozen=True)
class Timers(Value):
    """When something is due, in monotonic seconds; None is never."""

    inspect: float | None = None
    retry: float | None = None
    save: float | None = None
    fence: float | None = None
    journal: float | None = None
    upload: float | None = None
    confirm: float | None = None
    terminate: float | None = None
    kill: float | None = None
    give_up_waiting: float | None = None
    drain: float | None = None
    leave: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How the session is going to end once the trainer is gone and the uploads are through.

    ``message`` say what happened; ``hint`` what a person can do about it, where the phase is FAILED.
    """

    phase: Phase
    exit_code: int
    reason: str
    message: str
    wait_for_uploads: bool = True
    end_record_requested: bool = False
    flush_requested: bool = False
    wait_reported: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Session(Value):
    """The state that decides. ``seen_s`` is the time of the last event; ``writes_suspended`` means: publish and delete nothing.

    ``writes_suspended_s``: since when; what was seen sooner than the store's settle time after it may be stale. ``store_error_kind`` is the
    kind of the error with which the store does not answer ("" it does), ``store_error_s`` since when.
    ``failed_at`` tells where the last attempt failed, ``same_failures`` how often in a row that was there without a new step,
    ``highest_step`` the step that any attempt has come to. ``base_step`` is the step of the script's own files that the attempt was
    given, None for none; ``failed_steps`` how many steps the last failed attempt had made itself.
    ``active_rollbacks``: the rollbacks that hold for this session; ``first_durable_past_anomaly``: its first DURABLE step beyond the last of them;
    ``rollback``: its own, and ``rollback_recorded`` whether the store has that.
    """

    config: Config
    phase: Phase = Phase.STARTING
    session_id: SessionId | None = None
    started_s: float = 0.0
    seen_s: float = 0.0
    trainer: TrainerState = TrainerState()
    saves: SaveProgress = SaveProgress()
    timers: Timers = Timers()
    history: HistoryRead = HistoryRead()
    ending: Ending | None = None
    claim_settled: bool = False
    environment_requested: bool = False
    environment_ready: bool = False
    checkpoint: str | None = None
    resumed_step: int = 0
    failures: int = 0
    progress_step: int = 0
    recoveries: int = 0
    failed_at: str = ""
    same_failures: int = 0
    highest_step: int = 0
    base_step: int | None = None
    failed_steps: int = 0
    cause: str = ""
    drain_requested: bool = False
    writes_suspended: bool = False
    writes_suspended_s: float = 0.0
    store_error_kind: str = ""
    store_error_s: float = 0.0
    owner_observed: tuple[SessionId, int] | None = None
    owner_seen_s: float = 0.0
    probe_sent: bool = False
    probed_s: float | None = None
    probes_answered: int = 0
    active_rollbacks: tuple[Rollback, ...] = ()
    first_durable_past_anomaly: int | None = None
    rollback: Rollback | None = None
    rollback_recorded: bool = False

    def timed(self, **timers: float | None) -> Session:
        """Return a copy with these timers changed."""
        return self.with_(timers=self.timers.with_(**timers))


def has_unconfirmed_work(session: Session) -> bool:
    """Say whether this machine may hold what is safe nowhere else."""
    saves = session.saves
    return bool(saves.uploading or saves.next_upload or saves.unconfirmed) or session.phase is Phase.FAILED


def lifetime_end(session: Session) -> float | None:
    """Return when this machine is expected to end, in monotonic seconds, or None."""
    life = expected(session.config.time_limit, session.history.reclaimed_s)
    return None if life is None else session.started_s + life.seconds - session.config.age_s


def save_interval(session: Session) -> interval_policy.Interval | None:
    """Return the interval between saves in force, or None where the trainer counts steps by itself or cannot be asked."""
    if not session.trainer.saves_on_request:
        return None
    unit, value = session.config.save_every.unit, session.config.save_every.value
    saves = session.saves
    if unit == "auto":
        life_s = interval_policy.mean_life(
            session.history.lives_s, session.history.lost, prior_s=session.config.prior_life_s
        )
        return interval_policy.optimal(saves.stall_s + saves.slow_s, max(saves.upload_s, saves.write_s), life_s)
    if unit == "s":
        lost_s = saves.stall_s + saves.slow_s
        return interval_policy.Interval(value, value / 2 + saves.upload_s, lost_s / (value + lost_s) if value else 0.0)
    return None
