"""Leftovers of a dead supervisor on this machine: a running trainer and folders without a use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from threading import Event
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.engine import atomic, json_file
from supervisor.engine.paths import SUPERVISOR
from supervisor.engine.trainer_process import descendants
from supervisor.engine.trainer_process.process_identity import PROC, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCK = "lock"
TRAINER = "trainer.json"
WAIT_S = 60.0
POLL_S = 0.05


def note_trainer(session: Path, pid: int) -> None:
    """Record the trainer's process, so that a successor can end it if it outlives its supervisor."""
    json_file.write(session / TRAINER, {"pid": pid, "since": started(pid)})


def lock_session(lock: Path) -> int:
    """Lock a session's folder and return the descriptor. The trainer inherits it."""
    fd = atomic.open_lock(lock)
    atomic.lock(fd, wait=True)  # waits at most for a successor's check, because the folder is this session's own
    return fd


def end_orphans(run: Path, mine: SessionId, say: Callable[[str], None] = lambda _: None) -> None:
    """Wait until trainers of dead supervisors have staged their last checkpoint, and kill those that do not end.

    An orphaned trainer notices the end of its supervisor and stops at its next step boundary. Waiting for it saves the
    work since its last checkpoint. Processes that it started are not waited for. ``say`` informs the user.
    """
    for session, rank in _dead(run, mine):
        if _supervised(session):
            continue
        if atomic.is_locked(session / LOCK):
            _wait_for_end(session, rank, say)
            _kill_trainer(session)
        _end_descendants(run.name, rank, say)
        if atomic.is_locked(session / LOCK):
            say(
                f"another process holds the local folder of session {rank.generation}: waiting at most {WAIT_S:.0f} s for it"
            )
            _freed_within(session / LOCK, WAIT_S)
    # a session without a local folder can have left processes too
    descendants.end(lambda mark: mark.run_id == run.name and mark.rank < mine and not mark.supervised)


def _wait_for_end(session: Path, rank: SessionId, say: Callable[[str], None]) -> None:
    """Wait while the trainer lives. Its forked children may hold the lock for ever."""
    trainer = json_file.process(session / TRAINER)
    if trainer is None or not _runs(trainer):
        return
    say(
        f"the trainer of session {rank.generation} has outlived its supervisor (process {trainer[0]}):"
        f" waiting at most {WAIT_S:.0f} s for its last checkpoint"
    )
    pause = Event()
    for _ in range(int(WAIT_S / POLL_S)):
        if not atomic.is_locked(session / LOCK) or not _runs(trainer):
            return
        pause.wait(POLL_S)


def _end_descendants(run_id: str, rank: SessionId, say: Callable[[str], None]) -> None:
    ended = descendants.end(lambda mark: mark.run_id == run_id and mark.rank == rank and not mark.supervised)
    if ended:
        processes = "1 process" if ended == 1 else f"{ended} processes"
        say(f"ended {processes} that the trainer of session {rank.generation} had started and left behind")


def delete_dead_sessions(run: Path, mine: SessionId, *, keep: Path) -> None:
    """Delete the local folders of dead sessions, except the one that holds ``keep``."""
    for session, _ in _dead(run, mine):
        if not keep.is_relative_to(session) and not atomic.is_locked(session / LOCK):
            shutil.rmtree(session, ignore_errors=True)


def _dead(run: Path, mine: SessionId) -> Iterator[tuple[Path, SessionId]]:
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(run.iterdir()):
            rank = parse_session_id(folder.name)
            if rank is not None and rank < mine:
                yield folder, rank


def _freed_within(lock: Path, seconds: float) -> bool:
    pause = Event()
    for _ in range(int(seconds / POLL_S)):
        if not atomic.is_locked(lock):
            return True
        pause.wait(POLL_S)
    return not atomic.is_locked(lock)


def _supervised(session: Path) -> bool:
    """Return whether the session's supervisor is alive. It was superseded then, and ends its trainer itself."""
    noted = json_file.process(session / SUPERVISOR)
    return noted is not None and _runs(noted)


def _runs(process: tuple[int, str]) -> bool:
    return started(process[0]) == process[1]


def _kill_trainer(session: Path) -> None:
    """Kill the trainer and its workers: processes that have the lock open and belong to the trainer's process session.

    The recorded pid alone proves nothing, because another process may have it by now.
    """
    noted = json_file.process(session / TRAINER)
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
