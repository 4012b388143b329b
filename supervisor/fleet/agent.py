"""The fleet's own process on a machine: it starts the supervisor, hands over what that stores, and tells how it goes.

Everything it knows lies in the machine's folder; killed at any instruction and started again it goes on. The supervisor does
not notice.
"""

from __future__ import annotations

import fcntl
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, get_native_id
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.core.values import dataclass
from supervisor.engine.lane import NICE
from supervisor.engine.place import RunPlace
from supervisor.fleet import consignment, lost, reporting
from supervisor.fleet.outbox import Outbox
from supervisor.fleet.reporting import Phase, Report
from supervisor.fleet.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.core.ports import Clock, Store

T = TypeVar("T")
TICK_S = 0.5
REPORT_EVERY_S = 2.0
NOTES, SEEDED = "agent", "seeded"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's ``folder`` and what is in it: ``store`` under ``store/``, the supervisor's local folders."""

    folder: Path
    store: Store
    local_root: Path
    clock: Clock
    environ: dict[str, str]

    @property
    def notes(self) -> Path:
        """The agent's own folder."""
        return self.folder / NOTES


class Agent:
    """One agent of one machine; ``say`` is its log."""

    def __init__(self, machine: Machine, say: Callable[[str], None]) -> None:
        self.machine = machine
        self._say = say
        self._outbox = Outbox(machine.folder / "outbox", machine.folder / "store", machine.clock)
        self._inbox = consignment.Inbox(machine.folder / "inbox", machine.store, self._outbox, machine.notes)
        self._report = Report(machine.folder, reporting.age(machine.notes, machine.clock))
        self._pause = Event()
        # of its own, because whoever is started by a thread that gives way gives way too, and that is the trainer
        self._carrier = ThreadPoolExecutor(1, "carrier", initializer=_give_way)
        self._troubles: dict[str, str] = {}
        self._told: tuple[Any, ...] = ()
        self._told_s = -REPORT_EVERY_S
        self._over: dict[str, Any] | None = None
        self._mended = self._untold = ""
        self._record = lost.Record(machine.folder / "store")

    def serve(self) -> int:
        """Serve the machine's job to its end; return the supervisor's exit code."""
        served = None
        try:
            job = self._prepared()
            served = Served(self.machine, job, self._outbox)
            code = self._watched(served, job)
            self._hand_over(job, code)
        except lost.Lost as error:
            self._troubles, self._mended = {"the machine": f"{error.what}; {error.hint}"}, ""
            if served is not None:
                served.end()
            return self._end(error, lost.TOLD_WITHIN_S)
        except UserError as error:
            return self._end(error)
        return code

    def _end(self, error: UserError, within_s: float = 0.0) -> int:
        """Tell why nothing goes on here; for so long, where it cannot be told at once."""
        words, end_s = f"{error.what}; {error.hint}", self.machine.clock.now().mono_s + within_s
        self._say(words)
        while not self._tell(Phase.DONE, exit_code=error.exit_code, words=words, now=True):
            if self.machine.clock.now().mono_s >= end_s:
                break
            self._pause.wait(TICK_S)
        return error.exit_code

    def _prepared(self) -> consignment.Job:
        """Wait until all is there that the job needs, and put it in place."""
        while True:
            self._carry()
            job = consignment.job(self.machine.folder)
            seeded = (self.machine.folder / SEEDED).is_file()  # then only the notes of that may be gone
            lacking = self._inbox.lacks(job.seed) if job and not seeded else 0
            if self._mended:
                raise lost.Lost(self.machine.notes)  # of a file that came in part, only the rest would come
            if job is not None and not lacking:
                break
            words = f"waiting for {lacking} parcels from your computer" if job else "waiting for its job"
            self._tell(Phase.PREPARING, words=words)
            self._pause.wait(TICK_S)
        self._guarded("the note of its seed", (self.machine.folder / SEEDED).touch)
        self._tell(Phase.PREPARING, words="unpacking the code", now=True)
        consignment.unpack(self.machine.folder)
        return job

    def _watched(self, served: Served, job: consignment.Job) -> int:
        """Hand over while the supervisor runs; return its exit code. It is started if it does not run and has not ended."""
        while True:
            code = None
            if not self._in_doubt(job):  # in an empty store it would begin the run from its first step
                code = self._guarded("the supervisor could not be started", served.advance)
            self._carry()
            if code is not None:
                return code
            self._tell(Phase.RUNNING, words=served.words)
            self._pause.wait(TICK_S)

    def _hand_over(self, job: consignment.Job, code: int) -> None:
        """Stay until home holds everything, or nobody waits for it any more."""
        with suppress(UserError):  # a record that cannot be read: home judges it, and holds no less for that
            self._over = self._guarded(
                "its end", lambda: reporting.seen(self.machine.store, job.name, self.machine.clock)
            )
        while True:
            self._carry()
            if self._in_doubt(job):  # of a store that is gone nothing waits, and home does not hold everything
                self._pause.wait(TICK_S)
                continue
            files, _ = self._outbox.waiting()
            late = job.release_at_s is not None and self._report.age_s(self.machine.clock) >= job.release_at_s
            if late or not (files or self._troubles):
                break
            self._tell(Phase.HANDING_OVER, exit_code=code, words=f"{files} files wait for your computer")
            self._pause.wait(TICK_S)
        words = f"{files} files were not fetched" if files else "your computer holds everything"
        self._tell(Phase.DONE, exit_code=code, words=words, now=True)

    def _in_doubt(self, job: consignment.Job) -> bool:
        """Say whether the run's files may have been removed. Raises Lost when that is certain."""
        known = RunPlace(job.name).record in self._outbox.acknowledged.held
        doubt = self._guarded("the store's record", lambda: self._record.in_doubt(job.name, known=known))
        return doubt is not False

    def _carry(self) -> None:
        """Take what came, pack what is new, on a thread that gives way to the training."""
        self._carrier.submit(self._carry_now).result()

    def _carry_now(self) -> None:
        self._guarded("the agent's notes", self._mend)
        self._guarded("the inbox", self._inbox.apply)
        self._guarded("the store", self._outbox.scan)
        self._guarded("the outbox", self._outbox.cut)

    def _mend(self) -> None:
        """Make the agent's own folders again where they were removed while it lived. Raises OSError."""
        made = [self._inbox.mend(), self._outbox.mend()]
        self._report.mend(self.machine.notes)
        if any(made):
            self._mended = "our agent's files were removed from the machine: they were made again, and the run goes on"
            self._say(self._mended)

    def _guarded(self, what: str, act: Callable[[], T]) -> T | None:
        """Do it; a passing failure is told in the status and tried again at the next tick."""
        try:
            done = act()
        except (OSError, StoreError) as error:
            if self._troubles.get(what) != str(error):
                self._say(f"{what}: {error}")
            self._troubles[what] = str(error)
            return None
        self._troubles.pop(what, None)
        return done

    def _tell(self, phase: Phase, *, words: str = "", exit_code: int | None = None, now: bool = False) -> bool:
        """Rewrite the status every few seconds, and at once when there is something to fetch; False if it cannot be written."""
        ready = self._outbox.ready
        told = (phase, tuple(number for number, _ in ready), exit_code)
        now_s = self.machine.clock.now().mono_s
        if not now and told == self._told and now_s - self._told_s < REPORT_EVERY_S:
            return True
        self._told, self._told_s = told, now_s
        files, waiting_bytes = self._outbox.waiting()
        troubles = [f"{what}: {words}" for what, words in self._troubles.items()]
        troubles += [each for each in (self._mended, self._inbox.trouble, self._outbox.trouble) if each]
        troubles += [f"your computer does not take {path}: {why}" for path, why in self._outbox.refused().items()]
        more: dict[str, Any] = {
            "relay": self._outbox.origin,
            "phase": phase.value,
            "parcels": [{"n": number, **parcel.index()} for number, parcel in ready],
            "waiting_files": files,
            "waiting_bytes": waiting_bytes,
            "exit_code": exit_code,
            "error": "; ".join(troubles[-3:]),
            "warnings": reporting.warnings(self.machine.folder),
            "watched": reporting.watched(self.machine.folder),
            "words": words,
        }
        if self._over is not None:
            more["run"] = self._over
        try:
            self._report.write(self.machine.clock, self.machine.local_root, more)
        except OSError as error:
            if self._untold != str(error):
                self._say(f"status.json cannot be written: {error}")  # without it home sees that the beat stands still
            self._untold = str(error)
            return False
        self._untold = ""
        return True


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)


@contextmanager
def alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Be the only agent of a folder: a second one waits for the first, after it has called ``wait``."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def serve(machine: Machine) -> int:
    """Be the machine's agent, as soon as no other is; return the supervisor's exit code."""

    def say(words: str) -> None:
        sys.stderr.write(f"agent: {words}\n")
        sys.stderr.flush()

    with alone(machine.notes, lambda: say("another agent is at it: waiting for its end")):
        done = reporting.done(machine.folder)
        return Agent(machine, say).serve() if done is None else done
