"""The fleet's controller as a process: an inbox, the pure ``decide``, one call at a time, and a journal that outlives it."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import threading
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import fields, shapes
from supervisor.core import fleet_words as fw
from supervisor.core.codec import UnknownRecord, from_line, to_line
from supervisor.core.errors import FENCED, INTERRUPTED, UserError
from supervisor.core.fleet import decide, next_wakeup
from supervisor.core.fleet_state import Fleet, Policy
from supervisor.core.fleet_waiting import QUIET_AGAIN_S
from supervisor.core.fleet_waiting import due_s as word_due_s
from supervisor.core.instant import Instant
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.ports import Clock

WAIT_S_MAX = 3600.0
JOURNAL_AGAIN_S = 5.0
JOURNAL, LOCK = "journal.jsonl", "lock"


class Hands(Protocol):
    """Does a call and returns what came of it; never raises for what the world did."""

    def do(self, call: fw.Call) -> fw.Event: ...


class Show(Protocol):
    """Shows the fleet to somebody."""

    def said(self, said: fw.Say) -> None: ...
    def seen(self, fleet: Fleet, event: fw.Event, now: Instant) -> None: ...


class Journal:
    """Events and calls, each on the disk before anything follows from it. ``first``: the fleet as earlier controllers left it."""

    def __init__(self, folder: Path, prefix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            words = "another launch of this run is at it on this computer"
            raise UserError(words, "stop that one, or watch it: `status`", FENCED) from None
        self._file = folder / JOURNAL
        if not self._file.is_file():
            beside = folder / f".new-{JOURNAL}"
            beside.write_text(json.dumps({"prefix": prefix}) + "\n", encoding="utf-8")
            beside.replace(self._file)  # whole or not there, because nothing can be folded without it
        try:
            self.first = folded(self._file)
        except ValueError as error:
            os.close(self._lock)
            raise UserError(
                f"the launch's journal {self._file} is damaged: {error}",
                "see at the provider whether a machine of it is left; then remove that file and launch again",
            ) from error
        self._told: Any = None

    def record(self, now: Instant, value: Any) -> None:
        """Keep it. Of polls only what changed; that a call is polled is no news at all."""
        if isinstance(value, fw.Woke | fw.Waited | fw.Poll | fw.Say):
            return
        if isinstance(value, fw.Polled):
            told = (value.phase, value.exit_code, value.safe, value.step is None)
            if told == self._told:
                return
            self._told = told
        else:  # what is folded must know that the machine was heard after it
            self._told = None
        self._append(to_line({"mono_s": round(now.mono_s, 3), "wall_s": round(now.wall_s, 3)}, value))

    def close(self) -> None:
        """Let another controller begin."""
        os.close(self._lock)

    def _append(self, line: str) -> None:
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, b"" if self._ends_whole() else b"\n")  # a killed controller may have left half a line
                os.write(fd, f"{line}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:  # what is not written down is not done
            words = f"{self._file} cannot be written: {error.strerror or error}"
            raise UserError(
                words, "see to its disk; the machine goes on, and the same command takes it up again"
            ) from error

    def _ends_whole(self) -> bool:
        with self._file.open("rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")


def records(file: Path) -> Iterator[tuple[Instant, Any]]:
    """Yield what a journal holds; half a line, and what this version does not know, is passed over."""
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
    """The first line of a journal: how the machines of this launch are called."""

    prefix: shapes.Name


def folded(file: Path) -> Fleet:
    """Return the fleet as a journal tells it: what was decided is decided again, and nothing is done.

    Raises ValueError where its first line is damaged: nothing can be folded without it.
    """
    with file.open(encoding="utf-8", errors="replace") as opened:
        fleet = Fleet(shapes.read(_Head, opened.readline(fields.RECORD_BYTES_MAX)).prefix)
    for at, value in records(file):
        if isinstance(value, fw.Event):
            fleet, _ = decide(fleet, value, at)
    return fleet


class Controller:
    """One controller of one run."""

    def __init__(self, journal: Journal, hands: Hands, clock: Clock, show: Show) -> None:
        self.fleet = journal.first
        self._journal, self._hands, self._clock, self._show = journal, hands, clock, show
        self._inbox: queue.SimpleQueue[fw.Event | BaseException] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[fw.Call] = queue.SimpleQueue()
        self._held: list[fw.Event] = []  # what came while the journal could not be written
        self._end: fw.End | None = None
        self._idle = threading.Event()
        self._idle.set()

    def tell(self, event: fw.Event) -> None:
        """Put an event into the inbox, from any thread or signal handler."""
        self._inbox.put(event)

    def run(self, policy: Policy, on: str = "") -> fw.End:
        """Serve the run until it ends, or until this controller is told to leave."""
        threading.Thread(target=self._work, name="fleet-calls", daemon=True).start()
        began = fw.Began(policy, on)
        self._journal.record(self._clock.now(), began)  # before anything is done: without a journal nothing begins
        self._decide(began, self._clock.now())
        while self._end is None:
            event = self._next()
            now = self._clock.now()
            self._record(now, event)
            self._decide(event, now)
        return self._end

    def settle(self, within_s: float) -> bool:
        """Wait for the end of the call in flight; say whether it ended."""
        return self._idle.wait(within_s)

    def _next(self) -> fw.Event:
        if self._held:
            return self._held.pop(0)
        now = self._clock.now()
        wake_s, word_s = next_wakeup(self.fleet, now), word_due_s(self.fleet)
        try:
            event = self._inbox.get(timeout=max(min(wake_s - now.mono_s, word_s - now.mono_s, WAIT_S_MAX), 0.0))
        except queue.Empty:
            return fw.Woke() if self._clock.now().mono_s >= wake_s else fw.Waited()
        if isinstance(event, BaseException):
            raise event
        return event

    def _record(self, now: Instant, value: Any) -> None:
        """Keep it; while the journal cannot be written wait for that, because the machine goes on and may cost."""
        due_s = -inf
        while True:
            try:
                return self._journal.record(now, value)
            except UserError as error:
                at_s = self._clock.now().mono_s
                if at_s >= due_s:
                    self._show.said(fw.Say("error", error.what, f"make room on its disk; {self._costing()}"))
                    due_s = at_s + QUIET_AGAIN_S
            try:
                event = self._inbox.get(timeout=JOURNAL_AGAIN_S)
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, fw.Told) and event.wish == "leave":
                raise UserError("left while the journal could not be written", self._costing(), INTERRUPTED)
            self._held.append(event)

    def _costing(self) -> str:
        machine = self.fleet.machine
        if machine is None:
            return "nothing is begun before it can be written"
        rate = f" at {self.fleet.units_per_hour:.2f} units/h" if self.fleet.units_per_hour else ""
        return f"meanwhile {machine.endpoint} goes on{rate}; Ctrl-C twice leaves it, and the same command takes it up again"

    def _decide(self, event: fw.Event, now: Instant) -> None:
        self.fleet, commands = decide(self.fleet, event, now)
        self._show.seen(self.fleet, event, now)
        for command in commands:
            self._record(now, command)
            if isinstance(command, fw.Say):
                self._show.said(command)
            elif isinstance(command, fw.End):
                self._end = command
            else:
                self._idle.clear()
                self._calls.put(command)

    def _work(self) -> None:
        """Do the calls, one after the other, while the loop stays free for people."""
        while True:
            call = self._calls.get()
            try:
                self._inbox.put(self._hands.do(call))
            except BaseException as defect:  # noqa: BLE001  # a defect of ours ends the controller, which raises it
                self._inbox.put(defect)
            self._idle.set()
