"""What to do: everything the supervisor can cause, as frozen values. Nothing here acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from supervisor.core.policy.rollback import Rollback
    from supervisor.core.wire.messages import SaveRequest, StopRequest


@dataclass(frozen=True, slots=True)
class InspectRun:
    """List the run's folder before claiming. Outcome: Looked or SetupFailed."""


@dataclass(frozen=True, slots=True)
class ProbeOwner:
    """Ask the session ``generation``-``writer`` for a sign of life, through the store. Outcome: Knocked."""

    generation: int
    writer: str


@dataclass(frozen=True, slots=True)
class AnswerProbe:
    """Give a sign of life in our own folder: knock number ``probe`` was seen. No outcome: it can only be late."""

    probe: int


@dataclass(frozen=True, slots=True)
class WriteClaim:
    """Claim this epoch. Outcome: ClaimWritten or SetupFailed."""

    generation: int


@dataclass(frozen=True, slots=True)
class PrepareEnvironment:
    """Install what is missing. Outcome: EnvironmentReady or SetupFailed."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Read the journals of earlier sessions. Outcome: HistoryRead or SetupFailed."""


@dataclass(frozen=True, slots=True)
class FetchCheckpoint:
    """Bring the newest whole checkpoint to the local disk. Outcome: CheckpointReady or SetupFailed."""

    fresh: bool = False


@dataclass(frozen=True, slots=True)
class StartTrainer:
    """Start the trainer, which heeds ``rollbacks``. Outcome: Launched or SetupFailed, later TrainerExited."""

    attempt: int
    checkpoint: str
    rollbacks: tuple[Rollback, ...] = ()


@dataclass(frozen=True, slots=True)
class SendToTrainer:
    """Say something to the trainer. What it does shows in its own messages."""

    message: SaveRequest | StopRequest


@dataclass(frozen=True, slots=True)
class SignalTrainer:
    """Send the trainer's whole process group a signal: "stacks" (dump all stacks and die), "term" or "kill"."""

    how: str


@dataclass(frozen=True, slots=True)
class SampleTrainerCpu:
    """See whether the trainer's processes have worked. Outcome: TrainerSeen."""


@dataclass(frozen=True, slots=True)
class UploadCheckpoint:
    """Put a staged folder into the store.

    Outcome: PublishFailed; Submitted and Durable, where the evidence comes with the call; or Submitted alone.
    """

    folder: str
    step: int


@dataclass(frozen=True, slots=True)
class ConfirmDurability:
    """Ask for the evidence on what was submitted of this folder. Outcome: Unconfirmed, Durable or PublishFailed."""

    folder: str


@dataclass(frozen=True, slots=True)
class DeleteStaged:
    """Remove a staged folder from the local disk."""

    folder: str


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove what retention lets go. Outcome: Retained or RetainFailed."""


@dataclass(frozen=True, slots=True)
class CheckFence:
    """List the run's folder to see whether we are outranked or asked to stop. Outcome: FenceSeen, FenceUnreadable."""


@dataclass(frozen=True, slots=True)
class WriteJournal:
    """Close a piece of the journal in the store. Outcome: JournalWritten or JournalFailed."""


@dataclass(frozen=True, slots=True)
class WriteRollback:
    """Record what this session withdraws, and why in ``message``. Outcome: RollbackWritten, or FenceSeen if outranked."""

    rollback: Rollback
    message: str


@dataclass(frozen=True, slots=True)
class RecordNonfinite:
    """Record that a loss is no number, so that the checkpoints before it stay. No outcome: removing waits for it."""

    last_good_step: int
    step: int
    message: str


@dataclass(frozen=True, slots=True)
class RecordSessionEnd:
    """Record how this session ended. Outcome: EndWritten."""

    reason: str
    exit_code: int
    message: str
    step: int | None


@dataclass(frozen=True, slots=True)
class FlushDrive:
    """Let the platform send what is submitted, for at most ``within_s``; the store is gone after it. Outcome: Flushed."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Notify:
    """Words for the user, now. ``level``: "info", "warning" or "error"."""

    level: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PublishState:
    """What people shall see of the session that no event carries by itself. Times are monotonic seconds."""

    phase: str
    state: str
    cause: str = ""
    attempt: int = 0
    recoveries: int = 0
    deadline_at_s: float | None = None
    next_save_at_s: float | None = None
    save_every_s: float | None = None
    expected_loss_s: float | None = None
    exit_code: int | None = None


Command = (
    InspectRun | ProbeOwner | AnswerProbe | WriteClaim | PrepareEnvironment | ReadHistory | FetchCheckpoint | StartTrainer | SendToTrainer | SignalTrainer | SampleTrainerCpu
    | UploadCheckpoint | ConfirmDurability | DeleteStaged | Prune | CheckFence | WriteJournal | WriteRollback | RecordNonfinite | RecordSessionEnd | FlushDrive | Notify | PublishState
)  # fmt: skip
