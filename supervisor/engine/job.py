"""What a session is given to work with: the job, its run, the places and the hands. Filled in by ``wiring``."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.errors import UserError
from supervisor.core.project import Project
from supervisor.core.sharing import SHARED_BYTES_MIN
from supervisor.core.values import dataclass
from supervisor.engine.files.watched_folder import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from supervisor.core import retention
    from supervisor.core.claim import Rank
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.claims import Alive
    from supervisor.engine.place import RunPlace


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job's environment: the interpreter to start the trainer with and all its variables."""

    python: str
    environ: Mapping[str, str] = field(default_factory=dict)
    installed: Sequence[str] = ()
    drift: Sequence[str] = ()
    seconds: float = 0.0


class Environments(Protocol):
    """Makes the job's environment.

    ``prepare`` may take minutes; ``record`` and ``keep`` leave what later machines reuse, the first cheap, the second
    while the trainer runs.
    """

    def prepare(self) -> Prepared: ...
    def record(self, rank: Rank) -> None: ...
    def keep(self) -> None: ...


def cannot_flush(_within_s: float) -> None:
    """Say that this platform cannot send what its drive still holds."""
    raise UserError("this platform cannot be told to send what is written", "keep the machine until it is uploaded")


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that does not change in a session. ``flush`` sends what a mounted drive holds and unmounts it.

    ``watched``: what the trainer finds in its environment on what it is to watch for.
    """

    script: Path
    arguments: Sequence[str]
    run: RunPlace
    run_id: str
    store: Store
    local_root: Path
    clock: Clock
    environments: Environments
    alive: Alive
    identity: Mapping[str, Any]
    platform: str
    writer: str
    environ: Mapping[str, str]
    save_every: str
    retention: retention.Policy
    claim_extra: Mapping[str, Any]
    show: Callable[[bytes], None]
    deadline_wall_s: float | None = None
    shared_bytes_min: int = SHARED_BYTES_MIN
    flush: Callable[[float], None] = cannot_flush
    watched: Mapping[str, str] = field(default_factory=dict)
    watch: Watch = Watch()
    project: Project = Project()
