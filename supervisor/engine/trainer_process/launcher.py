"""Starts attempts of the trainer and forwards their messages and output."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.policy import rollback
from supervisor.engine import json_file
from supervisor.engine.context import PreparedEnvironment, SessionContext
from supervisor.engine.host import user_key
from supervisor.engine.paths import SUPERVISOR
from supervisor.engine.trainer_process import descendants, orphans
from supervisor.engine.trainer_process.channel import Channel
from supervisor.engine.trainer_process.process import Listeners, TrainerProcess, trainer_command
from supervisor.engine.trainer_process.process_identity import cpu_s, started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.policy.rollback import Rollback
    from supervisor.core.wire.messages import Malformed, Message, SaveRequest, StopRequest
    from supervisor.engine.paths import SessionPaths
    from supervisor.engine.trainer_process.log_capture import LogCapture

CHECKOUT = Path(__file__).resolve().parents[3]
GRACE_S = 60.0
LAST_WORDS_S = 2.0
ROLLED = "SUPERVISOR_RUN_ROLLBACKS"
PACKAGES = "SUPERVISOR_RUN_PACKAGES"


class Launcher:
    """Runs at most one trainer at a time. Call ``open`` after the claim, then ``launch`` for each attempt."""

    def __init__(
        self,
        job: SessionContext,
        on_message: Callable[[Message | Malformed], None],
        exited: Callable[..., None],
        output: LogCapture,
    ) -> None:
        self.job = job
        self.prepared: PreparedEnvironment | None = None
        self.added: tuple[Sequence[str], Mapping[str, str]] = ((), {})  # arguments and variables of the next attempt
        self._on_message, self._exited, self._output = on_message, exited, output
        self._local: SessionPaths | None = None
        self._channel: Channel | None = None
        self._lock: int | None = None
        self._trainer: TrainerProcess | None = None

    def open(self, local: SessionPaths) -> None:
        """Take the session's lock and listen."""
        self._local = local
        self._take(local)
        self._channel = Channel(local.session / "channel", self._on_message)

    def recreate_folders(self) -> bool:
        """Create the session's local folders and notes again if they were deleted; return whether they were.

        A live trainer keeps its connection, and the next one finds the channel under its name again. Raises OSError.
        """
        local, channel = self._local, self._channel
        if local is None or channel is None or self._lock is None or not (local.emptied or channel.name_deleted):
            return False
        local.make()
        if not local.lock.exists():
            os.close(
                self._lock
            )  # living processes of the trainer hold the old lock, but others cannot find a lock without a name
            self._take(local)
            if self._trainer is not None:
                orphans.note_trainer(local.session, self._trainer.pid)
        channel.listen_again()
        return True

    def _take(self, local: SessionPaths) -> None:
        self._lock = orphans.lock_session(local.lock)
        json_file.write(local.session / SUPERVISOR, {"pid": os.getpid(), "since": started(os.getpid())})

    def launch(self, attempt: int, checkpoint: str, rolled: Sequence[Rollback] = ()) -> int:
        """Start the trainer; return its process id. Raises OSError."""
        assert self._local is not None
        assert self._channel is not None
        assert self._lock is not None
        prepared = self.prepared or PreparedEnvironment("")
        environ = {**self._environ(self._local, attempt, checkpoint, prepared), ROLLED: rollback.to_env(rolled)}
        self._output.begin(attempt, self._local.session / f"output-{attempt:04d}.log")
        more, variables = self.added
        command = trainer_command(prepared.python, self.job.script, [*self.job.arguments, *more])
        listeners = Listeners(self._printed, lambda code, oom: self._exited(code, oom=oom), self._end_descendants)
        self._trainer = TrainerProcess(command, {**environ, **variables}, listeners, keep_open=(self._lock,))
        orphans.note_trainer(self._local.session, self._trainer.pid)
        return self._trainer.pid

    def send(self, message: SaveRequest | StopRequest) -> None:
        """Send a message to the trainer. A trainer that never attached is ended after its grace period."""
        if self._channel is not None:
            self._channel.send(message)

    def drain(self) -> None:
        """Wait for the last messages of an ended trainer."""
        if self._channel is not None:
            self._channel.drain(LAST_WORDS_S)

    def end(self, how: str) -> None:
        """Signal the trainer's group."""
        if self._trainer is not None:
            self._trainer.end(how)

    def cpu_s(self) -> float | None:
        """Return the CPU seconds of the trainer's processes, or None if unknown."""
        return cpu_s(self._trainer.pid) if self._trainer is not None else None

    def close(self) -> None:
        """End all remaining processes."""
        if self._trainer is not None:
            self.end("kill")
            self._end_descendants()
        if self._channel is not None:
            self._channel.close()
        if self._lock is not None:  # the next session of this process takes its own lock
            os.close(self._lock)
            self._lock = None

    def _end_descendants(self) -> None:
        if self._local is not None:
            mark = descendants.mine(self.job.run_id, self._local.rank)
            descendants.end(lambda other: other == mark)

    def _printed(self, text: bytes) -> None:
        for line in self._output.add(text):
            self.job.show(line)

    def _environ(
        self, local: SessionPaths, attempt: int, checkpoint: str, prepared: PreparedEnvironment
    ) -> Mapping[str, str]:
        assert self._channel is not None
        inherited = user_key.without_key(prepared.environ or self.job.environ)
        deadline = self.job.deadline_wall_s
        return {
            **inherited,
            **_secrets(inherited.get("SUPERVISOR_RUN_SECRETS", "")),
            **self.job.watched,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), inherited.get("PYTHONPATH", "")])),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONHASHSEED": inherited.get("PYTHONHASHSEED") or hash_seed(self.job.run_id),
            "PYTHONUNBUFFERED": "1",
            "SUPERVISOR_RUN_ID": self.job.run_id,
            descendants.VARIABLE: str(descendants.mine(self.job.run_id, local.rank)),
            "SUPERVISOR_RUN_NAME": self.job.run.name,
            "SUPERVISOR_RUN_CHECKPOINT": checkpoint,
            "SUPERVISOR_RUN_STAGING": str(local.staging),
            "SUPERVISOR_RUN_SCRATCH": str(local.scratch),
            "SUPERVISOR_RUN_ATTEMPT": str(attempt),
            "SUPERVISOR_RUN_DEADLINE": "" if deadline is None else f"{deadline:.0f}",
            "SUPERVISOR_RUN_CHANNEL": str(self._channel.path),
            "SUPERVISOR_RUN_SAVE_EVERY": self.job.save_every,
            PACKAGES: own_packages(),
            **shell_commands.environment(),
            "SUPERVISOR_RUN_GRACE_S": f"{GRACE_S:.0f}",
            "TORCHELASTIC_RESTART_COUNT": str(attempt - 1),
            "TORCHELASTIC_RUN_ID": self.job.run_id,
            "WANDB_RUN_ID": self.job.run_id,
            "WANDB_RESUME": "allow",
        }


def hash_seed(run_id: str) -> str:
    """Return the seed of Python's hashes. All machines of a run share it, so that a set of strings keeps its order."""
    return str(int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4], "big"))


def _secrets(file: str) -> dict[str, str]:
    """Return the variables for the trainer alone, from a file of ``NAME=value`` lines. Raises OSError."""
    lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    told = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value for name, found, value in told if found and name.strip()}


def own_packages() -> str:
    """Return the folder with the supervisor's xxhash, for a trainer without one; "" if there is none."""
    found = find_spec("xxhash")
    return str(Path(found.origin).parents[1]) if found and found.origin else ""
