"""Everything that a session works with: the job, its run, paths, store and clock. ``composition`` creates it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.errors import UserError
from supervisor.core.frozen import dataclass
from supervisor.core.policy.dedup import SHARED_BYTES_MIN
from supervisor.core.project import Project
from supervisor.engine.file_watch.watch_options import WatchedFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.policy import retention
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog.claims import Alive


@dataclass(frozen=True, slots=True)
class PreparedEnvironment:
    """The job's environment: the interpreter for the trainer and all its variables."""

    python: str
    environ: Mapping[str, str] = field(default_factory=dict)
    installed: Sequence[str] = ()
    drift: Sequence[str] = ()
    seconds: float = 0.0


class Environments(Protocol):
    """Prepares the job's environment.

    ``prepare`` may take minutes. ``record`` and ``keep`` save what later machines reuse: ``record`` is quick, ``keep``
    runs beside the trainer.
    """

    def prepare(self) -> PreparedEnvironment: ...
    def record(self, rank: SessionId) -> None: ...
    def keep(self) -> None: ...


def cannot_flush(_within_s: float) -> None:
    """Raise UserError: this platform cannot flush its drive."""
    raise UserError("this platform cannot be told to send what is written", "keep the machine until it is uploaded")


@dataclass(frozen=True, slots=True)
class SessionContext:
    """The constant part of a session. ``flush`` uploads what a mounted drive holds and unmounts it.

    ``watched`` is added to the trainer's environment and names the values to monitor.
    """

    script: Path
    arguments: Sequence[str]
    run: RunPaths
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
    retention: retention.RetentionPolicy
    claim_extra: Mapping[str, Any]
    show: Callable[[bytes], None]
    deadline_wall_s: float | None = None
    shared_bytes_min: int = SHARED_BYTES_MIN
    flush: Callable[[float], None] = cannot_flush
    watched: Mapping[str, str] = field(default_factory=dict)
    watch: WatchedFolder = WatchedFolder()
    project: Project = Project()
