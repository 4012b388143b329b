"""The fleet's controller as a process: an inbox, the pure ``decide``, one call at a time, and a durable journal."""

from __future__ import annotations

import json
import os
import queue
import threading
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.clock import Instant
from supervisor.core.errors import FENCED, INTERRUPTED, UserError
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.decide import decide, next_wakeup
from supervisor.core.fleet.state import Fleet, FleetPolicy
from supervisor.core.fleet.waiting import QUIET_AGAIN_S
from supervisor.core.fleet.waiting import due_s as word_due_s
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields, shapes
from supervisor.core.wire.journal_codec import UnknownRecord, from_line, to_line
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.ports import Clock

WAIT_S_MAX = 3600.0
JOURNAL_AGAIN_S = 5.0
JOURNAL, LOCK = "journal.jsonl", "lock"


class FleetExecutorPort(Protocol):
    """Performs a call and returns its result; external failures never raise."""

    def do(self, call: fw.Call) -> fw.Event: ...


class Show(Protocol):
    """Shows the fleet."""

    def notify(self, notification: fw.Report) -> None: ...
    def update(self, fleet: Fleet, event: fw.Event, now: Instant) -> None: ...


class FleetJournal:
    """Journal of events and calls, each on the disk before any consequence.

    ``first``: the fleet left by earlier controllers.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = atomic.open_lock(folder / LOCK)
        if not atomic.lock(self._lock):
            os.close(self._lock)
            words = "another launch of this run is at it on this computer"
            raise UserError(words, "stop that one, or watch it: `status`", FENCED)
        self._file = folder / JOURNAL
        if not self._file.is_file():
            # complete or absent, because nothing can be replayed without it
            atomic.replace(self._file, (json.dumps({"prefix": prefix}) + "\n").encode())
        try:
            self.first = replay(self._file)
        except ValueError as error:
            os.close(self._lock)
            raise UserError(
                f"the launch's journal {self._file} is damaged: {error}",
                "see at the provider whether a machine of it is left; then remove that file and launch again",
            ) from error
        self._last_poll: Any = None

    def record(self, now: Instant, value: Any) -> None:
        """Record a value. Of polls only changes are recorded, and the call of a poll never."""
        if isinstance(value, fw.PollTimerFired | fw.WaitEnded | fw.PollMachine | fw.Report):
            return
        if isinstance(value, fw.MachinePolled):
            poll = (value.phase, value.exit_code, value.durable_step, value.step is None)
            if poll == self._last_poll:
                return
            self._last_poll = poll
        else:  # a replay must know that the machine answered after it
            self._last_poll = None
        self._append(to_line({"mono_s": round(now.mono_s, 3), "wall_s": round(now.wall_s, 3)}, value))

    def close(self) -> None:
        """Release the lock for another controller."""
        os.close(self._lock)

    def _append(self, line: str) -> None:
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(
                    fd, b"" if self._ends_with_newline() else b"\n"
                )  # a killed controller may have left a partial line
                os.write(fd, f"{line}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:  # an unrecorded call is not made
            words = f"{self._file} cannot be written: {error.strerror or error}"
            raise UserError(
                words, "see to its disk; the machine continues, and the same command attaches to it again"
            ) from error

    def _ends_with_newline(self) -> bool:
        with self._file.open("rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")


def records(file: Path) -> Iterator[tuple[Instant, Any]]:
    """Yield the values of a journal. A partial line and values unknown to this version are skipped."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            at, value = from_line(line, fw.TYPES)
        except UnknownRecord:
            continue
        yield Instant(at["mono_s"], at["wall_s"]), value


@dataclass(frozen=True, slots=True)
class _Head:
    """First line of a journal: the prefix of the launch's machine names."""

    prefix: shapes.Name


def replay(file: Path) -> Fleet:
    """Return the fleet's state by replaying a journal. Decisions are repeated; no call is made.

    Raises ValueError if the first line is damaged, because nothing can be replayed without it.
    """
    with file.open(encoding="utf-8", errors="replace") as opened:
        fleet = Fleet(shapes.read(_Head, opened.readline(fields.RECORD_BYTES_MAX)).prefix)
    for at, value in records(file):
        if isinstance(value, fw.Event):
            fleet, _ = decide(fleet, value, at)
    return fleet


class Controller:
    """One controller of one run."""

    def __init__(self, journal: FleetJournal, executor: FleetExecutorPort, clock: Clock, show: Show) -> None:
        self.fleet = journal.first
        self._journal, self._executor, self._clock, self._show = journal, executor, clock, show
        self._inbox: queue.SimpleQueue[fw.Event | BaseException] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[fw.Call] = queue.SimpleQueue()
        self._unrecorded: list[fw.Event] = []  # events received while the journal could not be written
        self._end: fw.EndController | None = None
        self._idle = threading.Event()
        self._idle.set()

    def tell(self, event: fw.Event) -> None:
        """Put an event into the inbox, from any thread or signal handler."""
        self._inbox.put(event)

    def run(self, policy: FleetPolicy, on: str = "") -> fw.EndController:
        """Serve the run until it ends, or until the user detaches this controller."""
        threading.Thread(target=self._work, name="fleet-calls", daemon=True).start()
        began = fw.ControllerStarted(policy, on)
        self._journal.record(self._clock.now(), began)  # first of all: without a journal nothing starts
        self._decide(began, self._clock.now())
        while self._end is None:
            event = self._next()
            now = self._clock.now()
            self._record(now, event)
            self._decide(event, now)
        return self._end

    def settle(self, within_s: float) -> bool:
        """Wait for the end of the call in flight; return True if it ended."""
        return self._idle.wait(within_s)

    def _next(self) -> fw.Event:
        if self._unrecorded:
            return self._unrecorded.pop(0)
        now = self._clock.now()
        wake_s, word_s = next_wakeup(self.fleet, now), word_due_s(self.fleet)
        try:
            event = self._inbox.get(timeout=max(min(wake_s - now.mono_s, word_s - now.mono_s, WAIT_S_MAX), 0.0))
        except queue.Empty:
            return fw.PollTimerFired() if self._clock.now().mono_s >= wake_s else fw.WaitEnded()
        if isinstance(event, BaseException):
            raise event
        return event

    def _record(self, now: Instant, value: Any) -> None:
        """Record a value. Wait while the journal cannot be written, because the machine continues and may cost."""
        due_s = -inf
        while True:
            try:
                return self._journal.record(now, value)
            except UserError as error:
                at_s = self._clock.now().mono_s
                if at_s >= due_s:
                    self._show.notify(fw.Report("error", error.what, f"make room on its disk; {self._cost_text()}"))
                    due_s = at_s + QUIET_AGAIN_S
            try:
                event = self._inbox.get(timeout=JOURNAL_AGAIN_S)
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, fw.UserRequest) and event.action == "leave":
                raise UserError("left while the journal could not be written", self._cost_text(), INTERRUPTED)
            self._unrecorded.append(event)

    def _cost_text(self) -> str:
        machine = self.fleet.machine
        if machine is None:
            return "nothing is begun before it can be written"
        rate = f" at {self.fleet.units_per_hour:.2f} units/h" if self.fleet.units_per_hour else ""
        return f"meanwhile {machine.endpoint} continues{rate}; Ctrl-C twice leaves it, and the same command attaches to it again"

    def _decide(self, event: fw.Event, now: Instant) -> None:
        self.fleet, commands = decide(self.fleet, event, now)
        self._show.update(self.fleet, event, now)
        for command in commands:
            self._record(now, command)
            if isinstance(command, fw.Report):
                self._show.notify(command)
            elif isinstance(command, fw.EndController):
                self._end = command
            else:
                self._idle.clear()
                self._calls.put(command)

    def _work(self) -> None:
        """Perform the calls in order, while the loop stays free for the user."""
        while True:
            call = self._calls.get()
            try:
                self._inbox.put(self._executor.do(call))
            except BaseException as defect:  # noqa: BLE001  # a defect of ours ends the controller, which raises it
                self._inbox.put(defect)
            self._idle.set()
