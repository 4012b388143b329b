"""The job of a machine on its way: the supervisor is started, started again where it was killed, and its end is found."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import MANIFEST_NAME
from supervisor.core.errors import FAILED, INTERRUPTED, TERMINATED
from supervisor.engine import claims, project, user_key
from supervisor.engine.identity import MACHINE
from supervisor.engine.place import RunPlace
from supervisor.fleet.consignment import KEY, PROJECT, SECRETS
from supervisor.fleet.reporting import LOG
from supervisor.fleet.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.fleet.agent import Machine
    from supervisor.fleet.consignment import Job
    from supervisor.fleet.outbox import Outbox

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = "supervisor"
AGAIN_MAX = 3
SIGNALLED = 128
ENDLESS_S = 7 * 86400.0
LAST_S = 60.0


class Served:
    """``words`` say how it is going."""

    def __init__(self, machine: Machine, job: Job, outbox: Outbox) -> None:
        self._machine, self._job, self._acknowledged = machine, job, outbox.acknowledged
        self._origin = outbox.origin
        self._turn = Turn(machine.notes)
        self.words = "starting"

    def advance(self) -> int | None:
        """Start what is to be started; return the exit code when it has ended for good. Raises OSError, StoreError."""
        if self._turn.lives:
            self.words = "preparing the script"  # shown until the supervisor there tells more
            return None
        begun = self._turn.begun
        if begun:
            code = self._turn.code()
            code = self._from_end() if code is None else code
            if code is not None and (code < SIGNALLED or code in {INTERRUPTED, TERMINATED}):
                return code
            fruitless = sum(each.get("checkpoints") == self._checkpoints for each in begun)
            if fruitless > AGAIN_MAX:
                self.words = f"the supervisor died {fruitless} times without a new checkpoint"
                return FAILED
        note = {"cwd": str(self._machine.folder / PROJECT), "checkpoints": self._checkpoints}
        self._turn.begin(self._command(), self._environ(), self._machine.folder / LOG, note)
        return None

    def end(self) -> None:
        """Ask the supervisor to end: what it writes has no place any more."""
        self._turn.end()

    @property
    def _checkpoints(self) -> int:
        """How many checkpoints the computer holds."""
        names = (path.rpartition("/")[2] for path in self._acknowledged.held)
        return sum(MANIFEST_NAME.fullmatch(name) is not None for name in names)

    def _command(self) -> list[str]:
        """Return the command line; the run is taken over, because no session of another machine can reach this store.

        ``-P``: the project may hold another version of this package.
        """
        return [
            sys.executable, "-P", "-m", PROGRAM, "start", str(self._machine.folder / PROJECT / self._job.script),
            "--store", f"relay:{self._machine.folder / 'store'}", "--name", self._job.name, "--takeover",
            *self._job.options, "--", *self._job.arguments,
        ]  # fmt: skip

    def _environ(self) -> Mapping[str, str]:
        environ = self._machine.environ
        release_s = self._job.release_at_s
        secrets, key = self._machine.folder / SECRETS, self._machine.folder / KEY
        there = [each for each in (secrets, key) if each.exists()]
        for private in there:
            private.chmod(0o600)  # because not every way to a machine keeps the mode of a file
        return {
            **environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), environ.get("PYTHONPATH", "")])),
            "SUPERVISOR_RUN_LOCAL": str(self._machine.local_root.parent),
            "SUPERVISOR_RUN_KEEP_MACHINE": "1",
            MACHINE: self._origin,
            project.ENVIRONMENT: project.passed_on(self._job.project) if self._job.project.known else "",
            "SUPERVISOR_RUN_SECRETS": str(secrets) if secrets in there else "",
            user_key.VARIABLE: key.read_text().strip() if key in there else "",
            "SUPERVISOR_RUN_UPLOAD_WAIT_S": f"{max(LAST_S, (release_s or ENDLESS_S) - LAST_S):.0f}",
        }

    def _from_end(self) -> int | None:
        """Return the exit code from the record that the last session of this machine left of its end."""
        run, store = RunPlace(self._job.name), self._machine.store
        last = max(claims.ranks(store, run), default=None)
        if last is None:
            return None
        local = claims.local_folder(claims.read_claim(store, run, last))
        if local is None or not local.is_relative_to(self._machine.folder):
            return None
        code: Any = claims.read_end(store, run, last).get("exit_code")
        return code if isinstance(code, int) else None
