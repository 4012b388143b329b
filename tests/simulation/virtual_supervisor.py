"""The real decide, Executor, Storing and Journal on a virtual machine: only threads, processes and time are not real."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages, retention
from supervisor.core.errors import FAILED
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.session import FINAL, Config, Phase, Session
from supervisor.core.status import RunStatus
from supervisor.engine.executor import Executor
from supervisor.engine.identity import started
from supervisor.engine.job import Job, Prepared
from supervisor.engine.journal import Journal
from supervisor.engine.place import LocalPlace, RunPlace
from tests.simulation.virtual_trainer import Chain, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.claim import Rank
    from tests.simulation.observer import Observer
    from tests.simulation.virtual_store import View
    from tests.simulation.world import Machine

RUN = RunPlace("run")
KEEP = 3


class Lane:
    """Does its work in order, each after a while."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor, self._free_at, self._busy = supervisor, 0.0, False

    def submit(self, work: Callable[[], None]) -> None:
        """Do this when its turn comes."""
        world = self._supervisor.machine.world
        self._free_at = max(self._free_at, world.now) + world.chance.uniform(0.05, 2.0)
        world.after(self._free_at - world.now, self._supervisor, lambda: self._turn(work))

    def _turn(self, work: Callable[[], None]) -> None:
        if self._busy:  # what it does now stands still, with the machine
            self.submit(work)
            return
        self._busy = True
        try:
            work()
        finally:
            self._busy = False


class Environments:
    """Everything is installed already."""

    def prepare(self) -> Prepared:
        """Nothing to do."""
        return Prepared("python")

    def record(self, _rank: Rank) -> None:
        """Nothing to record."""

    def keep(self) -> None:
        """Nothing to keep."""


class Launcher:
    """Starts virtual trainers and holds the session's real lock, as the real one does."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.prepared: Prepared | None = None
        self.trainer: Trainer | None = None
        self._lock: int | None = None
        self._local: LocalPlace | None = None

    def open(self, local: LocalPlace) -> None:
        """Take the session's lock."""
        self._local = local
        self._lock = os.open(local.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        note = {"pid": os.getpid(), "since": started(os.getpid())}
        (local.session / "supervisor.json").write_text(json.dumps(note))

    def launch(self, attempt: int, checkpoint: str) -> int:
        """Start an attempt."""
        assert self._local is not None
        self.trainer = Trainer(self.supervisor, attempt, self._local.staging, self.supervisor.chain)
        self.trainer.begin(checkpoint)
        return attempt

    def tell(self, message: messages.Save | messages.Stop) -> None:
        """Pass a message on."""
        if self.trainer is not None and not self.trainer.gone:
            self.trainer.tell(message)

    def end(self, how: str) -> None:
        """Signal the trainer."""
        if self.trainer is not None and not self.trainer.gone:
            self.trainer.end(how)

    def hear_out(self) -> None:
        """Everything said is heard at once here."""

    def close(self) -> None:
        """End what still runs."""
        if self.trainer is not None:
            self.trainer.die()
        self.release()

    def release(self) -> None:
        """The lock goes with the process."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Unwatched:
    """Nobody watches the folder: looks at the fence come from the clock alone."""

    def close(self) -> None:
        """Nothing to close."""


class Hands(Executor):
    """The real executor with virtual lanes and a virtual launcher."""

    def __init__(self, supervisor: Supervisor, job: Job, journal: Journal) -> None:
        super().__init__(job, supervisor.hear, journal, lambda _: None)
        self._lanes: dict[str, Any] = {name: Lane(supervisor) for name in self._lanes}
        self.launcher: Any = Launcher(supervisor)
        self._watch: Any = Unwatched()


class Supervisor:
    """One process of the supervisor on a machine, serving one session."""

    def __init__(self, machine: Machine, view: View, chain: Chain, config: Config, observer: Observer) -> None:
        self.machine, self.chain, self.observer = machine, chain, observer
        self.gone = False
        self.exit_code: int | None = None
        self.session = Session(config)
        self.journal = Journal(None, RunStatus(run="run"))
        self._wake = 0
        self._staged = 0
        view.process = self
        chance = machine.world.chance
        writer = f"{chance.getrandbits(32):08x}"
        identity = {"machine": machine.number, "writer": writer}
        machine.processes.append(self)
        observer.sessions[writer] = self
        self.executor = Hands(self, _job(self, view, writer, identity), self.journal)
        self.hear(ev.Started())

    def hear(self, event: ev.Event) -> None:
        """Put an event into the inbox."""
        self.machine.world.after(0.0, self, lambda: self._decide(event))

    def trainer_said(self, message: messages.Message) -> None:
        """Pass on a message as the channel does."""
        self.executor._trainer_said(message)

    def trainer_exited(self, code: int, *, oom: bool) -> None:
        """Pass on the end of the trainer."""
        if not self.gone:
            self.executor._trainer_exited(code, oom=oom)

    def next_staging(self) -> int:
        """Number the staged folders."""
        self._staged += 1
        return self._staged

    def die(self) -> None:
        """The process is gone: killed, or with its machine."""
        if self.gone:
            return
        self._leave()
        trainer = self.executor.launcher.trainer
        if trainer is not None and not trainer.gone:
            trainer.die() if self.machine.gone else trainer.orphaned()
        self.executor.launcher.release()

    def _decide(self, event: ev.Event) -> None:
        now = self.machine.now()
        self.observer.happened(self, event)
        self.journal.record(now, event)
        self.session, commands = decide(self.session, event, now)
        for command in commands:
            self.observer.commanded(self, command)
            self.journal.record(now, command)
            self.executor.execute(command)
        if self.session.phase in FINAL:
            self._end()
            return
        self._wake += 1
        turn, wait_s = self._wake, next_wakeup(self.session) - now.mono_s
        self.machine.world.after(wait_s, self, lambda: self._decide(ev.Woke()) if turn == self._wake else None)

    def _end(self) -> None:
        ending = self.session.ending
        self.exit_code = ending.exit_code if ending else FAILED
        self._leave()
        saves = self.session.saves
        unproved = bool(saves.publishing or saves.waiting) or self.session.phase is Phase.FAILED
        self.executor.close(keep=unproved)
        self.observer.ended(self)

    def _leave(self) -> None:
        self.gone = True
        if self in self.machine.processes:
            self.machine.processes.remove(self)


def _job(supervisor: Supervisor, view: View, writer: str, identity: dict[str, Any]) -> Job:
    machine = supervisor.machine

    def alive(claimed: Any) -> bool | None:
        if claimed.get("machine") != machine.number:
            return None
        return not supervisor.observer.sessions[claimed["writer"]].gone

    return Job(
        script=Path("train.py"), arguments=(), run=RUN, run_id="0123", store=view, local_root=machine.root, clock=machine,
        environments=Environments(), alive=alive, identity=identity, platform="virtual", writer=writer, environ={},
        save_every="asked", retention=retention.Policy(KEEP), claim_extra={}, show=lambda _: None,
        shared_bytes_min=1,
    )  # fmt: skip


def stop_request(rank: Rank, how: str, nonce: int) -> str:
    """Return the name of a request that a session end."""
    return RUN.stop_request(rank, how, f"{nonce:08x}")


__all__ = ["KEEP", "RUN", "Supervisor", "do", "stop_request"]
