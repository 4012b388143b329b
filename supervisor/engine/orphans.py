"""What a dead supervisor of this machine may have left: a trainer that still runs, and folders nobody needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
from threading import Event
from typing import TYPE_CHECKING

from supervisor.core.claim import Rank, rank_of
from supervisor.engine import descendants, notes
from supervisor.engine.identity import PROC, started
from supervisor.engine.place import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCK = "lock"
TRAINER = "trainer.json"
WAIT_S = 60.0
POLL_S = 0.05


def note_trainer(session: Path, pid: int) -> None:
    """Record which process the trainer is, so that a successor can end it if it outlives its supervisor."""
    notes.write(session / TRAINER, {"pid": pid, "since": started(pid)})


def hold(lock: Path) -> int:
    """Take the lock of a session's folder and return its descriptor; the trainer inherits it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # it waits at most for a successor's look, because the folder is ours alone
    return fd


def end_orphans(run: Path, mine: Rank, say: Callable[[str], None] = lambda _: None) -> None:
    """Wait for trainers of dead supervisors to stage their last checkpoint and end; kill what does not end.

    An orphan notices by itself that its supervisor is gone and ends at its next step boundary; waiting for it saves
    the work since its last checkpoint. What it had started is not waited for. ``say`` tells a person what is waited for.
    """
    for session, rank in _dead(run, mine):
        if _supervised(session):
            continue
        if is_held(session / LOCK):
            _hear_out(session, rank, say)
            _kill_trainer(session)
        _end_descendants(run.name, rank, say)
        if is_held(session / LOCK):
            say(
                f"another process holds the local folder of session {rank.epoch}: waiting at most {WAIT_S:.0f} s for it"
            )
            _freed_within(session / LOCK, WAIT_S)
    # a session whose local folder is gone can have left some too
    descendants.end(lambda mark: mark.run_id == run.name and mark.rank < mine and not mark.supervised)


def _hear_out(session: Path, rank: Rank, say: Callable[[str], None]) -> None:
    """Wait while the trainer lives; what it forked may hold the lock for ever after it."""
    trainer = notes.process(session / TRAINER)
    if trainer is None or not _runs(trainer):
        return
    say(
        f"the trainer of session {rank.epoch} has outlived its supervisor (process {trainer[0]}):"
        f" waiting at most {WAIT_S:.0f} s for its last checkpoint"
    )
    pause = Event()
    for _ in range(int(WAIT_S / POLL_S)):
        if not is_held(session / LOCK) or not _runs(trainer):
            return
        pause.wait(POLL_S)


def _end_descendants(run_id: str, rank: Rank, say: Callable[[str], None]) -> None:
    ended = descendants.end(lambda mark: mark.run_id == run_id and mark.rank == rank and not mark.supervised)
    if ended:
        processes = "1 process" if ended == 1 else f"{ended} processes"
        say(f"ended {processes} that the trainer of session {rank.epoch} had started and left behind")


def forget_dead_sessions(run: Path, mine: Rank, *, keep: Path) -> None:
    """Remove the local folders of sessions that nobody serves any more, but for the one that holds ``keep``."""
    for session, _ in _dead(run, mine):
        if not keep.is_relative_to(session) and not is_held(session / LOCK):
            shutil.rmtree(session, ignore_errors=True)


def _dead(run: Path, mine: Rank) -> Iterator[tuple[Path, Rank]]:
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(run.iterdir()):
            rank = rank_of(folder.name)
            if rank is not None and rank < mine:
                yield folder, rank


def is_held(lock: Path) -> bool:
    """Return whether a process has this lock; an absent file is held by none. Raises OSError."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _freed_within(lock: Path, seconds: float) -> bool:
    pause = Event()
    for _ in range(int(seconds / POLL_S)):
        if not is_held(lock):
            return True
        pause.wait(POLL_S)
    return not is_held(lock)


def _supervised(session: Path) -> bool:
    """Say whether the session's supervisor lives (it was taken over from, and ends its trainer itself)."""
    noted = notes.process(session / SUPERVISOR)
    return noted is not None and _runs(noted)


def _runs(process: tuple[int, str]) -> bool:
    return started(process[0]) == process[1]


def _kill_trainer(session: Path) -> None:
    """Kill the trainer and the workers that outlived it: who has the lock open and is of the trainer's process session.

    The noted pid alone would prove nothing, because it may be another process's by now.
    """
    noted = notes.process(session / TRAINER)
    wanted = (session / LOCK).stat()
    for process in PROC.iterdir() if noted is not None else ():
        if process.name.isdecimal() and _has_open(process / "fd", wanted):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if noted is not None and os.getsid(int(process.name)) == noted[0]:
                    os.kill(int(process.name), signal.SIGKILL)


def _has_open(descriptors: Path, wanted: os.stat_result) -> bool:
    try:
        links = list(descriptors.iterdir())
    except OSError:
        return False  # gone, or another user's
    for link in links:
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), wanted):
                return True
    return False
