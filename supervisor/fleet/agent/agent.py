"""Process of the fleet on a machine: it starts the supervisor, transfers its files and reports its status.

All its state lies in the machine's folder. After a kill at any point it continues when started again, without any
effect on the supervisor.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, get_native_id
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.engine import atomic
from supervisor.engine.paths import RunPaths
from supervisor.engine.task_queue import NICE
from supervisor.fleet.agent import agent_status, lost_store
from supervisor.fleet.agent.agent_status import AgentPhase, AgentStatus
from supervisor.fleet.agent.job import AgentJob
from supervisor.fleet.transfer import inbox as agent_inbox
from supervisor.fleet.transfer.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.fleet.agent.agent_paths import AgentPaths

T = TypeVar("T")
TICK_S = 0.5
REPORT_EVERY_S = 2.0
SEEDED = "seeded"


class Agent:
    """One agent of one machine; ``say`` writes its log."""

    def __init__(self, machine: AgentPaths, say: Callable[[str], None]) -> None:
        self.machine = machine
        self._say = say
        self._outbox = Outbox(machine.folder / "outbox", machine.folder / "store", machine.clock)
        self._inbox = agent_inbox.PartInbox(machine.folder / "inbox", machine.store, self._outbox, machine.agent_folder)
        self._report = AgentStatus(machine.folder, agent_status.age(machine.agent_folder, machine.clock))
        self._pause = Event()
        # a thread of its own: children inherit its low priority, and the trainer must not
        self._transfer_thread = ThreadPoolExecutor(1, "carrier", initializer=_lower_priority)
        self._errors: dict[str, str] = {}
        self._last_status: tuple[Any, ...] = ()
        self._last_status_s = -REPORT_EVERY_S
        self._final_status: dict[str, Any] | None = None
        self._restored_notice = self._pending_notice = ""
        self._record = lost_store.StoreRecord(machine.folder / "store")

    def serve(self) -> int:
        """Serve the machine's job to its end; return the supervisor's exit code."""
        agent_job = None
        try:
            job = self._wait_for_job()
            agent_job = AgentJob(self.machine, job, self._outbox)
            code = self._run_supervisor(agent_job, job)
            self._hand_over(job, code)
        except lost_store.StoreLost as error:
            self._errors, self._restored_notice = {"the machine": f"{error.what}; {error.hint}"}, ""
            if agent_job is not None:
                agent_job.end()
            return self._end(error, lost_store.REPORT_WITHIN_S)
        except UserError as error:
            return self._end(error)
        return code

    def _end(self, error: UserError, within_s: float = 0.0) -> int:
        """Report why the job ends here. Retry for ``within_s`` if the status cannot be written."""
        words, end_s = f"{error.what}; {error.hint}", self.machine.clock.now().mono_s + within_s
        self._say(words)
        while not self._write_status(AgentPhase.DONE, exit_code=error.exit_code, words=words, now=True):
            if self.machine.clock.now().mono_s >= end_s:
                break
            self._pause.wait(TICK_S)
        return error.exit_code

    def _wait_for_job(self) -> agent_inbox.JobSpec:
        """Wait for everything that the job needs, and unpack it."""
        while True:
            self._transfer()
            job = agent_inbox.job(self.machine.folder)
            seeded = (self.machine.folder / SEEDED).is_file()  # then only the notes on it can be missing
            missing = self._inbox.missing_parts(job.seed) if job and not seeded else 0
            if self._restored_notice:
                raise lost_store.StoreLost(
                    self.machine.agent_folder
                )  # of a partly received file, only the rest would come
            if job is not None and not missing:
                break
            words = f"waiting for {missing} parts from your computer" if job else "waiting for its job"
            self._write_status(AgentPhase.PREPARING, words=words)
            self._pause.wait(TICK_S)
        self._retrying("the note of its seed", (self.machine.folder / SEEDED).touch)
        self._write_status(AgentPhase.PREPARING, words="unpacking the code", now=True)
        agent_inbox.unpack(self.machine.folder)
        return job

    def _run_supervisor(self, agent_job: AgentJob, job: agent_inbox.JobSpec) -> int:
        """Transfer files while the supervisor runs; return its exit code. Start it if it neither runs nor has ended."""
        while True:
            code = None
            if not self._store_missing(job):  # an empty store would start the run from step 0
                code = self._retrying("the supervisor could not be started", agent_job.advance)
            self._transfer()
            if code is not None:
                return code
            self._write_status(AgentPhase.RUNNING, words=agent_job.status_text)
            self._pause.wait(TICK_S)

    def _hand_over(self, job: agent_inbox.JobSpec, code: int) -> None:
        """Stay until the computer has received everything, or the machine's time is over."""
        with suppress(UserError):  # an unreadable record: the computer checks it, and has no less without it
            self._final_status = self._retrying(
                "its end", lambda: agent_status.stored_status(self.machine.store, job.name, self.machine.clock)
            )
        while True:
            self._transfer()
            if self._store_missing(job):  # nothing is sent from a lost store, and the computer does not have everything
                self._pause.wait(TICK_S)
                continue
            files, _ = self._outbox.waiting()
            late = job.release_at_s is not None and self._report.age_s(self.machine.clock) >= job.release_at_s
            if late or not (files or self._errors):
                break
            self._write_status(AgentPhase.HANDING_OVER, exit_code=code, words=f"{files} files wait for your computer")
            self._pause.wait(TICK_S)
        words = f"{files} files were not fetched" if files else "your computer holds everything"
        self._write_status(AgentPhase.DONE, exit_code=code, words=words, now=True)

    def _store_missing(self, job: agent_inbox.JobSpec) -> bool:
        """Return True if the run's files may have been removed. Raises StoreLost if that is certain."""
        known = RunPaths(job.name).record in self._outbox.acknowledged.held
        missing = self._retrying("the store's record", lambda: self._record.is_missing(job.name, known=known))
        return missing is not False

    def _transfer(self) -> None:
        """Apply received parts and pack new files, on a thread of low priority."""
        self._transfer_thread.submit(self._transfer_once).result()

    def _transfer_once(self) -> None:
        self._retrying("the agent's notes", self._restore_folders)
        self._retrying("the inbox", self._inbox.apply)
        self._retrying("the store", self._outbox.scan)
        self._retrying("the outbox", self._outbox.cut)

    def _restore_folders(self) -> None:
        """Make the agent's own folders again if they were removed meanwhile. Raises OSError."""
        made = [self._inbox.restore(), self._outbox.restore()]
        self._report.restore(self.machine.agent_folder)
        if any(made):
            self._restored_notice = (
                "our agent's files were removed from the machine: they were made again, and the run continues"
            )
            self._say(self._restored_notice)

    def _retrying(self, what: str, act: Callable[[], T]) -> T | None:
        """Call ``act``. A transient failure is reported in the status and retried at the next tick."""
        try:
            done = act()
        except (OSError, StoreError) as error:
            if self._errors.get(what) != str(error):
                self._say(f"{what}: {error}")
            self._errors[what] = str(error)
            return None
        self._errors.pop(what, None)
        return done

    def _write_status(
        self, phase: AgentPhase, *, words: str = "", exit_code: int | None = None, now: bool = False
    ) -> bool:
        """Write the status every few seconds, and at once if there are files to fetch; return False on failure."""
        ready = self._outbox.ready
        status_key = (phase, tuple(number for number, _ in ready), exit_code)
        now_s = self.machine.clock.now().mono_s
        if not now and status_key == self._last_status and now_s - self._last_status_s < REPORT_EVERY_S:
            return True
        self._last_status, self._last_status_s = status_key, now_s
        files, waiting_bytes = self._outbox.waiting()
        errors = [f"{what}: {words}" for what, words in self._errors.items()]
        errors += [each for each in (self._restored_notice, self._inbox.error, self._outbox.error) if each]
        errors += [f"your computer does not take {path}: {why}" for path, why in self._outbox.refused().items()]
        more: dict[str, Any] = {
            "relay": self._outbox.origin,
            "phase": phase.value,
            "parcels": [{"n": number, **part.index()} for number, part in ready],
            "waiting_files": files,
            "waiting_bytes": waiting_bytes,
            "exit_code": exit_code,
            "error": "; ".join(errors[-3:]),
            "warnings": agent_status.warnings(self.machine.folder),
            "watched": agent_status.is_watched(self.machine.folder),
            "words": words,
        }
        if self._final_status is not None:
            more["run"] = self._final_status
        try:
            self._report.write(self.machine.clock, self.machine.local_root, more)
        except OSError as error:
            if self._pending_notice != str(error):
                # without it the controller sees that the heartbeat stopped
                self._say(f"status.json cannot be written: {error}")
            self._pending_notice = str(error)
            return False
        self._pending_notice = ""
        return True


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)


@contextmanager
def exclusive(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a folder's only agent. A second agent calls ``wait``, then waits for the first."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = atomic.open_lock(folder / "lock")
    try:
        if not atomic.lock(fd):
            wait()
            atomic.lock(fd, wait=True)
        yield
    finally:
        os.close(fd)


def serve(machine: AgentPaths) -> int:
    """Serve as the machine's agent once no other does; return the supervisor's exit code."""

    def say(words: str) -> None:
        sys.stderr.write(f"agent: {words}\n")
        sys.stderr.flush()

    with exclusive(machine.agent_folder, lambda: say("another agent is at it: waiting for its end")):
        done = agent_status.done(machine.folder)
        return Agent(machine, say).serve() if done is None else done
