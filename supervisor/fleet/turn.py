"""The supervisor as the agent starts it on a machine: it outlives the agent, is never there twice, and its end is found.

It lives while somebody holds the lock that it inherited, and its exit code is written down by the shell around it; so nothing
rests on who its parent is, or on the agent being there when it ends. An agent that lives keeps the lock's file open and the
notes in its memory: a folder that is removed under it is made again, and the supervisor is not started twice for that.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOCK = "turn.lock"
# no trap: what a shell ignores its children ignore too, and the supervisor wants to hear of signals
SHELL = 'code_file=$1; shift; "$@"; code=$?; echo "$code" >"$code_file.new" && mv "$code_file.new" "$code_file"; exit "$code"'


class Turn:
    """Supervisors of one machine, one after the other. Their notes lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._seen: int | None = None  # the lock's file as it was last seen: it can be asked also after it was removed
        self._known: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def lives(self) -> bool:
        """Whether a supervisor that was started here still runs."""
        if self._child is not None:
            self._child.poll()
        lock = self._locked()
        if lock is None:
            return True
        os.close(lock)
        return False

    @property
    def begun(self) -> list[dict[str, Any]]:
        """What was noted of each that was begun, in their order."""
        found = [_noted(note) for note in sorted(self._folder.glob("turn-*.json"))]
        if len(found) < len(self._known):
            self._folder.mkdir(exist_ok=True)
            for number, note in enumerate(self._known, 1):
                (self._folder / f"{_name(number)}.json").write_text(json.dumps(note))
            return list(self._known)
        self._known = found
        return list(found)

    def begin(self, command: Sequence[str], environ: Mapping[str, str], log: Path, note: Mapping[str, Any]) -> bool:
        """Start it, unless one lives; say whether it was started. Raises OSError."""
        lock = self._locked()
        if lock is None:
            return False
        try:
            name = _name(len(self.begun) + 1)
            (self._folder / f"{name}.json").write_text(json.dumps(dict(note)))
            self._known.append(dict(note))
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
        """Return the exit code of the last one, None while it runs and where it left none."""
        name = f"{_name(len(self.begun))}.code"
        try:
            return int((self._folder / name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def end(self) -> None:
        """Ask the supervisor that was started from here to end, where there is one; it may take its time."""
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)
            self._child.wait()  # the shell around it, which goes at once

    def _locked(self) -> int | None:
        """Return the descriptor of the lock, taken, or None while another has it."""
        if self._seen is not None:
            if not _taken(self._seen):
                return None
            os.close(self._seen)  # which gives it back
        self._seen = self._opened()
        fd = self._opened()
        if _taken(fd):
            return fd
        os.close(fd)
        return None

    def _opened(self) -> int:
        self._folder.mkdir(exist_ok=True)  # the folder above is the machine, which is not made from here
        return os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _name(number: int) -> str:
    return f"turn-{number:06d}"


def _noted(note: Path) -> dict[str, Any]:
    try:
        body = json.loads(note.read_bytes())
    except ValueError:
        return {}  # the agent was killed while it wrote it
    return body if isinstance(body, dict) else {}
