"""Starts attempts of the trainer and passes on what they say and print."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import program, rollback
from supervisor.engine import descendants, notes, orphans, user_key
from supervisor.engine.channel import Channel
from supervisor.engine.identity import cpu_s, started
from supervisor.engine.job import Job, Prepared
from supervisor.engine.place import SUPERVISOR
from supervisor.engine.process import Listeners, TrainerProcess, trainer_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.messages import Malformed, Message, Save, Stop
    from supervisor.core.rollback import Rollback
    from supervisor.engine.output import Output
    from supervisor.engine.place import LocalPlace

CHECKOUT = Path(__file__).resolve().parents[2]
GRACE_S = 60.0
LAST_WORDS_S = 2.0
ROLLED = "SUPERVISOR_RUN_ROLLBACKS"
PACKAGES = "SUPERVISOR_RUN_PACKAGES"


class Launcher:
    """At most one trainer lives at a time. ``open`` once the session has its folders, then ``launch`` per attempt."""

    def __init__(
        self,
        job: Job,
        said: Callable[[Message | Malformed], None],
        exited: Callable[..., None],
        output: Output,
    ) -> None:
        self.job = job
        self.prepared: Prepared | None = None
        self.added: tuple[Sequence[str], Mapping[str, str]] = ((), {})  # arguments and variables of the next attempt
        self._said, self._exited, self._output = said, exited, output
        self._local: LocalPlace | None = None
        self._channel: Channel | None = None
        self._lock: int | None = None
        self._trainer: TrainerProcess | None = None

    def open(self, local: LocalPlace) -> None:
        """Take the session's lock and listen."""
        self._local = local
        self._take(local)
        self._channel = Channel(local.session / "channel", self._said)

    def mend(self) -> bool:
        """Make the session's local folders and notes again where somebody has removed them; say whether that was so.

        A trainer that lives keeps its connection; the next one finds the channel under its name again. Raises OSError.
        """
        local, channel = self._local, self._channel
        if local is None or channel is None or self._lock is None or not (local.emptied or channel.unnamed):
            return False
        local.make()
        if not local.lock.exists():
            os.close(
                self._lock
            )  # what lives of the trainer holds it on; but a lock without a name is no sign to others
            self._take(local)
            if self._trainer is not None:
                orphans.note_trainer(local.session, self._trainer.pid)
        channel.renew()
        return True

    def _take(self, local: LocalPlace) -> None:
        self._lock = orphans.hold(local.lock)
        notes.write(local.session / SUPERVISOR, {"pid": os.getpid(), "since": started(os.getpid())})

    def launch(self, attempt: int, checkpoint: str, rolled: Sequence[Rollback] = ()) -> int:
        """Start the trainer; return its process id. Raises OSError."""
        assert self._local is not None
        assert self._channel is not None
        assert self._lock is not None
        prepared = self.prepared or Prepared("")
        environ = {**self._environ(self._local, attempt, checkpoint, prepared), ROLLED: rollback.as_words(rolled)}
        self._output.begin(attempt, self._local.session / f"output-{attempt:04d}.log")
        more, variables = self.added
        command = trainer_command(prepared.python, self.job.script, [*self.job.arguments, *more])
        listeners = Listeners(self._printed, lambda code, oom: self._exited(code, oom=oom), self._end_descendants)
        self._trainer = TrainerProcess(command, {**environ, **variables}, listeners, keep_open=(self._lock,))
        orphans.note_trainer(self._local.session, self._trainer.pid)
        return self._trainer.pid

    def tell(self, message: Save | Stop) -> None:
        """Say something to the trainer. One that never attached cannot hear it: for that there is its grace."""
        if self._channel is not None:
            self._channel.tell(message)

    def hear_out(self) -> None:
        """Wait for the last words of a trainer that has ended."""
        if self._channel is not None:
            self._channel.hear_out(LAST_WORDS_S)

    def end(self, how: str) -> None:
        """Signal the trainer's group."""
        if self._trainer is not None:
            self._trainer.end(how)

    def cpu_s(self) -> float | None:
        """Return the processor time of the trainer's processes so far, in seconds; None where it cannot be had."""
        return cpu_s(self._trainer.pid) if self._trainer is not None else None

    def close(self) -> None:
        """End whatever still runs."""
        if self._trainer is not None:
            self.end("kill")
            self._end_descendants()
        if self._channel is not None:
            self._channel.close()
        if self._lock is not None:  # the next session of this process is another holder
            os.close(self._lock)
            self._lock = None

    def _end_descendants(self) -> None:
        if self._local is not None:
            mark = descendants.mine(self.job.run_id, self._local.rank)
            descendants.end(lambda other: other == mark)

    def _printed(self, text: bytes) -> None:
        for line in self._output.add(text):
            self.job.show(line)

    def _environ(self, local: LocalPlace, attempt: int, checkpoint: str, prepared: Prepared) -> Mapping[str, str]:
        assert self._channel is not None
        inherited = user_key.without(prepared.environ or self.job.environ)
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
            **program.environment(),
            "SUPERVISOR_RUN_GRACE_S": f"{GRACE_S:.0f}",
            "TORCHELASTIC_RESTART_COUNT": str(attempt - 1),
            "TORCHELASTIC_RUN_ID": self.job.run_id,
            "WANDB_RUN_ID": self.job.run_id,
            "WANDB_RESUME": "allow",
        }


def hash_seed(run_id: str) -> str:
    """Return the seed of Python's hashes, the same on all machines of a run: a set of words has one order in it."""
    return str(int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4], "big"))


def _secrets(file: str) -> dict[str, str]:
    """Return what only the trainer is to have in its environment: lines ``NAME=value`` of a file. Raises OSError."""
    lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    told = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value for name, found, value in told if found and name.strip()}


def own_packages() -> str:
    """Return the folder in which the supervisor has xxhash, for a trainer that has none; "" if there is none."""
    found = find_spec("xxhash")
    return str(Path(found.origin).parents[1]) if found and found.origin else ""
