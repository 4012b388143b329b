"""The supervisor as the agent starts it on a machine: it outlives the agent, is never there twice, and its end is found.

It lives while somebody holds the lock that it inherited, and its exit code is written down by the shell around it; so nothing
rests on who its parent is, or on the agent being there when it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
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
        notes = sorted(self._folder.glob("turn-*.json"))
        return [_noted(note) for note in notes]

    def begin(self, command: Sequence[str], environ: Mapping[str, str], log: Path, note: Mapping[str, Any]) -> bool:
        """Start it, unless one lives; say whether it was started. Raises OSError."""
        lock = self._locked()
        if lock is None:
            return False
        try:
            name = f"turn-{len(self.begun) + 1:06d}"
            (self._folder / f"{name}.json").write_text(json.dumps(dict(note)))
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
        name = f"turn-{len(self.begun):06d}.code"
        try:
            return int((self._folder / name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _locked(self) -> int | None:
        """Return the descriptor of the lock, taken, or None while another has it."""
        fd = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


def _noted(note: Path) -> dict[str, Any]:
    try:
        body = json.loads(note.read_bytes())
    except ValueError:
        return {}  # the agent was killed while it wrote it
    return body if isinstance(body, dict) else {}
