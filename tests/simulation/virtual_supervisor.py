"""The real decide, Executor, Storing and Journal on a virtual machine: only threads, processes and time are not real."""

from __future__ import annotations

import fcntl
import json
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages, retention, status
from supervisor.core.errors import FAILED, UserError
from supervisor.core.machine import decide, next_wakeup
from supervisor.core.session import FINAL, Config, Phase, Session
from supervisor.engine import runs
from supervisor.engine.executor import Executor
from supervisor.engine.identity import started
from supervisor.engine.job import Job, Prepared
from supervisor.engine.journal import ROUTINE, Journal
from supervisor.engine.place import LocalPlace, RunPlace
from supervisor.engine.succession import following, follows
from tests.simulation.virtual_trainer import Chain, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.rollback import Rollback
    from tests.simulation.observer import Observer
    from tests.simulation.virtual_store import View
    from tests.simulation.world import Machine

RUN = RunPlace("run")
KEEP = 3


class Lane:
    """Does its work in order, each after a while."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor, self._busy = supervisor, False
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[[], None]) -> None:
        """Do this when its turn comes."""
        self._waiting.append(work)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        world = self._supervisor.machine.world
        self._busy = bool(self._waiting)
        if self._waiting:
            world.after(world.chance.uniform(0.05, 2.0), self._supervisor, self._turn)

    def _turn(self) -> None:
        self._waiting.popleft()()  # what it does may stand still, alone or with the machine, and the rest waits
        self._next()


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

    def launch(self, attempt: int, checkpoint: str, rolled: Sequence[Rollback] = ()) -> int:
        """Start an attempt."""
        assert self._local is not None
        self.trainer = Trainer(self.supervisor, attempt, self._local.staging, self.supervisor.chain, rolled=rolled)
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

    def cpu_s(self) -> float | None:
        """Return what the trainer has computed: all the time, unless it hangs."""
        working = self.trainer is not None and not self.trainer.hangs
        return self.supervisor.machine.now().mono_s if working else 0.0

    def mend(self) -> bool:
        """Say that the local folder is there: nobody empties it here."""
        return False

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


class Swift(Journal):
    """The real journal; what moves only the time of the status is folded into it when somebody looks."""

    _at: Any = None

    @property
    def status(self) -> status.RunStatus:
        """The status by now."""
        if self._at is not None:
            self._status, self._at = status.fold(self._status, None, self._at), None
        return self._status

    @status.setter
    def status(self, value: status.RunStatus) -> None:
        self._status, self._at = value, None

    def record(self, at: Any, value: Any) -> None:
        """Add a record."""
        if type(value) in status._FOLDS:
            super().record(at, value)
        elif isinstance(value, ROUTINE):
            self._at = at
        else:
            self._at = at
            self._settle_beat()
            self._append(at, value)


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
        # these would look at source and files in real threads, which no history can hold
        self.files.begin = self.files.heard = _nothing


def _nothing(_: object) -> None:
    """The virtual scripts keep their state by attach() and write no files of their own."""


class Supervisor:
    """One process of the supervisor on a machine, serving one session."""

    def __init__(self, machine: Machine, view: View, chain: Chain, config: Config, observer: Observer) -> None:
        self.machine, self.view, self.chain, self.observer = machine, view, chain, observer
        self.gone = False
        self.exit_code: int | None = None
        self.session = Session(config)
        self.journal = Swift(None, status.RunStatus(run="run"))
        self.executor: Hands | None = None
        self._wake = 0
        self._staged = 0
        view.process = self
        self.writer = f"{machine.world.chance.getrandbits(32):08x}"
        machine.processes.append(self)
        observer.sessions[self.writer] = self
        machine.world.after(0.0, self, self._enter)

    def _enter(self) -> None:
        """Find the run's record or make it, as the command line does before there is a session."""
        script = self.machine.world.folder / "train.py"
        script.write_bytes(b"")
        try:
            record = runs.enter(self.view, RUN, script, (), {})
        except UserError:
            self.observer.counts["not entered"] = self.observer.counts.get("not entered", 0) + 1
            self._leave()
            return
        self.executor = Hands(self, _job(self, record.id), self.journal)
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
        if self.executor is None:
            return
        trainer = self.executor.launcher.trainer
        if trainer is not None and not trainer.gone:
            trainer.die() if self.machine.gone else trainer.orphaned()
        self.executor.launcher.release()

    def _decide(self, event: ev.Event) -> None:
        if self.executor is None:
            return  # a signal that came before there was a session: it was the end of the program, or nothing
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
        unproved = bool(saves.publishing or saves.waiting or saves.unproved) or self.session.phase is Phase.FAILED
        self.executor.close(keep=unproved)
        self.observer.ended(self)
        if follows(self.session) and not self.machine.gone:  # the same process goes on with a new session
            config = following(self.session.config, self.session.started_s, self.machine)
            Supervisor(self.machine, self.view, self.chain, config, self.observer)

    def _leave(self) -> None:
        self.gone = True
        if self in self.machine.processes:
            self.machine.processes.remove(self)


def _job(supervisor: Supervisor, run_id: str) -> Job:
    machine, view = supervisor.machine, supervisor.view
    identity = {"machine": machine.number, "writer": supervisor.writer}

    def alive(claimed: Any) -> bool | None:
        if claimed.get("machine") != machine.number:
            return None
        return not supervisor.observer.sessions[claimed["writer"]].gone

    return Job(
        script=Path("train.py"), arguments=(), run=RUN, run_id=run_id, store=view, local_root=machine.root, clock=machine,
        environments=Environments(), alive=alive, identity=identity, platform="virtual", writer=supervisor.writer,
        environ={}, save_every="asked", retention=retention.Policy(KEEP), claim_extra={}, show=lambda _: None,
        shared_bytes_min=1, flush=view.flush,
    )  # fmt: skip


def stop_request(rank: Rank, how: str, nonce: int) -> str:
    """Return the name of a request that a session end."""
    return RUN.stop_request(rank, how, f"{nonce:08x}")


__all__ = ["KEEP", "RUN", "Supervisor", "do", "stop_request"]
