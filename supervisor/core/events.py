"""What happened: everything the supervisor reacts to, as frozen values. Every command's outcome is among them."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.claim import Rank, Sighting
    from supervisor.core.messages import Malformed, Message
    from supervisor.core.rollback import Rollback


@dataclass(frozen=True, slots=True)
class Started:
    """The loop begins."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The time asked for by ``next_wakeup`` has come."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The run's folder was listed. ``last`` is the highest session in it; ``same_job``: it ran these arguments.

    ``changed`` says in words what was edited since that session; ``lost`` what is missing of the checkpoint that it
    finished with.
    """

    names: tuple[str, ...]
    last: Sighting | None = None
    same_job: bool = True
    changed: str = ""
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Knocked:
    """Our question for a sign of life lies in the store, unless ``error`` says why it could not be put there."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class ClaimWritten:
    """Our claim lies in the store."""

    rank: Rank


@dataclass(frozen=True, slots=True)
class EnvironmentReady:
    """The job's packages are in place."""

    seconds: float
    installed: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """What the journals of earlier sessions say, and in ``words`` how the last one ended.

    ``reclaimed_s``: how old machines were that ended without a word; ``reclaimed_on`` has the same by platform.
    """

    lives_s: tuple[float, ...] = ()
    reclaimed_s: tuple[float, ...] = ()
    lost: int = 0
    lost_in_a_row: int = 0
    longest_s: Mapping[str, float] = field(default_factory=dict)
    last_step: int | None = None
    step_s: float | None = None
    words: str = ""
    reclaimed_on: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LivesRead:
    """How old machines of this platform were that other runs in the same store lost."""

    reclaimed_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """What this machine is, in ``words``; ``device``: its accelerators, "" for none; ``advice``: what to know of it."""

    device: str
    words: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointReady:
    """A whole, verified checkpoint lies in the local ``folder`` (empty: begin at step 0).

    ``durable``: in the store; ``adopted``: staged here by a dead session; ``rolled``: rollbacks that hold from here on.
    ``changed`` says in words how script and arguments differ from those of the session that made it.
    ``files``: it carries the files of a script that nobody changed; ``counted``: as in ``carried.Carried``.
    """

    folder: str
    id: CheckpointId | None
    durable: bool = True
    adopted: bool = False
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    rolled: tuple[Rollback, ...] = ()
    changed: str = ""
    files: bool = False
    counted: bool = True


@dataclass(frozen=True, slots=True)
class SetupFailed:
    """The session cannot start: a person has to do something. Two lines and an exit code."""

    what: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Launched:
    """The trainer runs."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)  # made all the time, so its own methods pay
class TrainerSaid:
    """A message from the trainer, or a line from it that is none."""

    message: Message | Malformed


@dataclass(frozen=True, slots=True)
class TrainerSeen:
    """The processor time of the trainer and all its processes so far; None where the system does not tell."""

    cpu_s: float | None


@dataclass(frozen=True, slots=True)
class TrainerExited:
    """The trainer is gone. ``code`` as subprocess gives it; ``oom`` is the kernel's evidence; ``tail`` its last lines.

    ``other_file``: the next attempt is started with another of the script's files, so that it may end otherwise.
    """

    code: int
    oom: bool = False
    tail: tuple[str, ...] = ()
    other_file: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """The checkpoint's files are written to the store, not yet proved to have left this machine."""

    folder: str
    id: CheckpointId
    bytes: int


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """What was submitted is still not proved, and ``words`` say why. ``possible``: whether a proof can ever come.

    ``moving``: more of it has left the machine since the last question.
    """

    folder: str
    words: str
    possible: bool = True
    moving: bool = False


@dataclass(frozen=True, slots=True)
class Durable:
    """The checkpoint is proved to be in the store, by ``evidence``. Only this may be called saved."""

    folder: str
    id: CheckpointId
    bytes: int
    upload_s: float
    evidence: str


@dataclass(frozen=True, slots=True)
class PublishFailed:
    """A publish did not succeed. The staged files stay and it is tried again, unless they themselves are damaged."""

    folder: str
    error: str
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Retained:
    """Checkpoints that had to go are gone."""

    removed: tuple[CheckpointId, ...]
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class RetainFailed:
    """Removing failed; nothing needed is lost, only space."""

    error: str


@dataclasses.dataclass(frozen=True, slots=True)  # made all the time, so its own methods pay
class FenceSeen:
    """The run's folder was listed while running. ``stop`` is a request to end ("" none, "save", "now").

    ``looked_s``: the monotonic time at which the listing began; None: just now. ``knocks``: how many asked for a sign of
    life from us so far.
    """

    names: tuple[str, ...]
    stop: str = ""
    looked_s: float | None = None
    knocks: int = 0


@dataclass(frozen=True, slots=True)
class FenceUnreadable:
    """The store did not answer. Not seeing it is no failure of the run. ``kind``: as in ``ports.StoreError``."""

    error: str
    kind: str = "unreadable"


@dataclass(frozen=True, slots=True)
class JournalWritten:
    """A piece of the journal was closed in the store."""


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """The piece could not be written; its records go into the next one."""

    error: str


@dataclass(frozen=True, slots=True)
class RollbackWritten:
    """What this session withdraws is on record in the store, unless ``error``."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class EndWritten:
    """The record of this session's end lies in the store (or could not be written: ``error``)."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class Flushed:
    """The platform sent all that was written: ``id`` is then safe. Empty ``error``; otherwise why it could not."""

    id: CheckpointId | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Signalled:
    """A person or the system asks: SIGINT, SIGTERM, SIGHUP."""

    name: str


@dataclass(frozen=True, slots=True)
class Notice:
    """The platform says that this machine goes in ``in_s`` seconds. Not ``certain``: it may go, or later."""

    in_s: float
    words: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """How much memory this machine has left: what later tells a machine that ran out of it from one that was taken."""

    available_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ControllerFailed:
    """The supervisor cannot go on: ``error`` is for a bug report; with ``words`` it is no defect, and they say what to do."""

    error: str
    words: str = ""
    hint: str = ""
    exit_code: int = FAILED


Event = (
    Started | Woke | Looked | Knocked | ClaimWritten | EnvironmentReady | HistoryRead | CheckpointReady | SetupFailed
    | Launched | LivesRead | MachineSeen | TrainerSaid | TrainerSeen | TrainerExited | Submitted | Unconfirmed | Durable
    | PublishFailed | Retained | RetainFailed | FenceSeen | FenceUnreadable | JournalWritten | JournalFailed
    | RollbackWritten | EndWritten | Flushed | Signalled | Notice | MemorySeen | ControllerFailed
)  # fmt: skip
