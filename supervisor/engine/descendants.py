"""Processes that a trainer started, wherever they went: they carry its session in their environment, and no other process does.

A child that left the trainer's process group (setsid, a daemon) or was started by a trainer whose supervisor was killed would
live for ever, with its port and its share of the accelerator's memory.
"""

from __future__ import annotations

import os
import signal
from threading import Event
from typing import TYPE_CHECKING

from supervisor.core.claim import Rank, rank_of
from supervisor.core.values import dataclass
from supervisor.engine.identity import PROC, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VARIABLE = "SUPERVISOR_RUN_TRAINER_OF"
GRACE_S, POLL_S = 5.0, 0.02


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose trainer a process belongs to: the run, the session, and the process of its supervisor."""

    run_id: str
    rank: Rank
    pid: int
    since: str

    @property
    def supervised(self) -> bool:
        """Whether that supervisor still lives."""
        return started(self.pid) == self.since

    def __str__(self) -> str:
        return f"{self.run_id} {self.rank} {self.pid} {self.since}"


def mine(run_id: str, rank: Rank) -> Mark:
    """Return the mark for the trainers that this process starts in a session."""
    return Mark(run_id, rank, os.getpid(), started(os.getpid()) or "")


def end(wanted: Callable[[Mark], bool], grace_s: float = GRACE_S) -> int:
    """Ask the marked processes that are wanted to end, and kill those that have not within the grace; return how many.

    Only processes of this user and this process table count, and never this one or one that it descends from.
    """
    asked = [each for each in _marked(wanted) if _signal(*each, wanted, signal.SIGTERM)]
    pause = Event()
    for _ in range(int(grace_s / POLL_S)):
        if not any(started(pid) == since for pid, since in asked):
            break
        pause.wait(POLL_S)
    meanwhile = _marked(wanted) if asked else ()  # what those that were asked have started
    for pid, since in (*asked, *meanwhile):
        _signal(pid, since, wanted, signal.SIGKILL)
    return len(asked)


def _marked(wanted: Callable[[Mark], bool]) -> Iterator[tuple[int, str]]:
    try:
        spared, user, table = _ancestry(), os.geteuid(), _table(PROC / "self")
    except OSError:
        return  # a system without /proc: nothing can be told there
    for process in PROC.iterdir():
        # the environment first: it tells nearly all processes apart, in one call each
        mark = _mark_of(process) if process.name.isdecimal() else None
        if mark is None or int(process.name) in spared or not wanted(mark):
            continue
        try:
            ours = process.stat().st_uid == user and _table(process) == table
        except OSError:
            continue  # it has just ended
        since = started(int(process.name))
        if ours and since is not None:
            yield int(process.name), since


def _signal(pid: int, since: str, wanted: Callable[[Mark], bool], number: int) -> bool:
    """Send a signal to this very process: its number may be another's by now, so it is held while it is looked at again."""
    try:
        held = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return False  # it has ended
    try:
        mark = _mark_of(PROC / str(pid))
        if started(pid) != since or mark is None or not wanted(mark):
            return False
        signal.pidfd_send_signal(held, number)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def _mark_of(process: Path) -> Mark | None:
    try:
        environ = (process / "environ").read_bytes()
    except OSError:
        return None  # gone, or not to be looked into
    prefix = f"{VARIABLE}=".encode()
    if prefix not in environ:
        return None
    told = next((each.removeprefix(prefix) for each in environ.split(b"\0") if each.startswith(prefix)), b"")
    parts = os.fsdecode(told).split(" ")
    rank = rank_of(parts[1]) if len(parts) == len(Mark.__slots__) else None
    if rank is None or not parts[2].isdecimal():
        return None
    return Mark(parts[0], rank, int(parts[2]), parts[3])


def _table(process: Path) -> str:
    return str((process / "ns/pid").readlink())


def _ancestry() -> set[int]:
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found
