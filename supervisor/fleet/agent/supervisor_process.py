"""The supervisor as a child of the agent: it outlives the agent, never runs twice, and its exit code is found.

It runs while a process holds the lock that it inherited. The shell around it records its exit code. So neither its
parent nor a live agent at its end matters.

A live agent keeps the lock file open and the notes in memory. If the folder is removed under it, the agent makes it
again and does not start the supervisor twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOCK = "turn.lock"
# no trap: children ignore what a shell ignores, and the supervisor must receive signals
SHELL = 'code_file=$1; shift; "$@"; code=$?; echo "$code" >"$code_file.new" && mv "$code_file.new" "$code_file"; exit "$code"'


class SupervisorProcess:
    """Supervisors of one machine, one after the other. Their notes lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._lock_fd: int | None = None  # the lock file when last opened: it can be checked even after its removal
        self._notes: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def alive(self) -> bool:
        """True while a supervisor started here runs."""
        if self._child is not None:
            self._child.poll()
        lock = self._locked()
        if lock is None:
            return True
        os.close(lock)
        return False

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The notes of each start, in order."""
        found = [_read_note(note) for note in sorted(self._folder.glob("turn-*.json"))]
        if len(found) < len(self._notes):
            self._folder.mkdir(exist_ok=True)
            for number, note in enumerate(self._notes, 1):
                (self._folder / f"{_name(number)}.json").write_text(json.dumps(note))
            return list(self._notes)
        self._notes = found
        return list(found)

    def start(self, command: Sequence[str], environ: Mapping[str, str], log: Path, note: Mapping[str, Any]) -> bool:
        """Start the supervisor unless one runs; return True if it was started. Raises OSError.

        Args:
            command: the command line.
            environ: the environment variables.
            log: file of its output.
            note: values to record with the start.
        """
        lock = self._locked()
        if lock is None:
            return False
        try:
            name = _name(len(self.starts) + 1)
            (self._folder / f"{name}.json").write_text(json.dumps(dict(note)))
            self._notes.append(dict(note))
            with log.open("ab") as out:
                self._child = subprocess.Popen(
                    ["/bin/sh", "-c", SHELL, "sh", str(self._folder / f"{name}.code"), *command],
                    env=dict(environ), cwd=note.get("cwd"), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True, pass_fds=(lock,),
                )  # fmt: skip
        finally:
            os.close(lock)
        return True

    def code(self) -> int | None:
        """Return the exit code of the last one; None while it runs and if it recorded none."""
        name = f"{_name(len(self.starts))}.code"
        try:
            return int((self._folder / name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def end(self) -> None:
        """Ask the supervisor started here to end, if there is one; it may take some time."""
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)
            self._child.wait()  # the shell around it, which exits at once

    def _locked(self) -> int | None:
        """Return the descriptor of the acquired lock, or None if another process holds it."""
        if self._lock_fd is not None:
            if not atomic.lock(self._lock_fd):
                return None
            os.close(self._lock_fd)  # which releases it
        self._lock_fd = self._opened()
        fd = self._opened()
        if atomic.lock(fd):
            return fd
        os.close(fd)
        return None

    def _opened(self) -> int:
        self._folder.mkdir(exist_ok=True)  # the folder above is the machine, which is not made here
        return atomic.open_lock(self._folder / LOCK)


def _name(number: int) -> str:
    return f"turn-{number:06d}"


def _read_note(note: Path) -> dict[str, Any]:
    try:
        body = json.loads(note.read_bytes())
    except ValueError:
        return {}  # the agent was killed while it wrote the note
    return body if isinstance(body, dict) else {}
