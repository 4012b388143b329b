"""What to do: everything the supervisor can cause, as frozen values. Nothing here acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from supervisor.core.messages import Save, Stop
    from supervisor.core.rollback import Rollback


@dataclass(frozen=True, slots=True)
class Look:
    """List the run's folder before claiming. Outcome: Looked or SetupFailed."""


@dataclass(frozen=True, slots=True)
class Knock:
    """Ask the session ``epoch``-``writer`` for a sign of life, through the store. Outcome: Knocked."""

    epoch: int
    writer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Give a sign of life in our own folder: knock number ``knock`` was seen. No outcome: it can only be late."""

    knock: int


@dataclass(frozen=True, slots=True)
class WriteClaim:
    """Claim this epoch. Outcome: ClaimWritten or SetupFailed."""

    epoch: int


@dataclass(frozen=True, slots=True)
class PrepareEnvironment:
    """Install what is missing. Outcome: EnvironmentReady or SetupFailed."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Read the journals of earlier sessions. Outcome: HistoryRead or SetupFailed."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring the newest whole checkpoint to the local disk. Outcome: CheckpointReady or SetupFailed."""

    afresh: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the trainer, which heeds ``rolled``. Outcome: Launched or SetupFailed, later TrainerExited."""

    attempt: int
    checkpoint: str
    rolled: tuple[Rollback, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the trainer. What it does shows in its own messages."""

    message: Save | Stop


@dataclass(frozen=True, slots=True)
class EndTrainer:
    """Send the trainer's whole process group a signal: "stacks" (dump all stacks and die), "term" or "kill"."""

    how: str


@dataclass(frozen=True, slots=True)
class LookAtTrainer:
    """See whether the trainer's processes have worked. Outcome: TrainerSeen."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Put a staged folder into the store.

    Outcome: PublishFailed; Submitted and Durable, where the evidence comes with the call; or Submitted alone.
    """

    folder: str
    step: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask for the evidence on what was submitted of this folder. Outcome: Unconfirmed, Durable or PublishFailed."""

    folder: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove a staged folder from the local disk."""

    folder: str


@dataclass(frozen=True, slots=True)
class Retain:
    """Remove what retention lets go. Outcome: Retained or RetainFailed."""


@dataclass(frozen=True, slots=True)
class LookAtFence:
    """List the run's folder to see whether we are outranked or asked to stop. Outcome: FenceSeen, FenceUnreadable."""


@dataclass(frozen=True, slots=True)
class WriteJournal:
    """Close a piece of the journal in the store. Outcome: JournalWritten or JournalFailed."""


@dataclass(frozen=True, slots=True)
class WriteRollback:
    """Record what this session withdraws, and why in ``words``. Outcome: RollbackWritten, or FenceSeen if outranked."""

    rollback: Rollback
    words: str


@dataclass(frozen=True, slots=True)
class NoteNonfinite:
    """Record that a loss is no number, so that the checkpoints before it stay. No outcome: removing waits for it."""

    fine: int
    step: int
    words: str


@dataclass(frozen=True, slots=True)
class WriteEnd:
    """Record how this session ended. Outcome: EndWritten."""

    reason: str
    exit_code: int
    words: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Flush:
    """Let the platform send what is submitted, for at most ``within_s``; the store is gone after it. Outcome: Flushed."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Say:
    """Words for the user, now. ``level``: "info", "warning" or "error"."""

    level: str
    words: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
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
    Look | Knock | Answer | WriteClaim | PrepareEnvironment | ReadHistory | Restore | Launch | Tell | EndTrainer | LookAtTrainer
    | Publish | Confirm | Discard | Retain | LookAtFence | WriteJournal | WriteRollback | NoteNonfinite | WriteEnd | Flush | Say | Announce
)  # fmt: skip
