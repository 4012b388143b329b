"""The job of a machine: starts the supervisor, restarts it after a kill, and reads its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.manifest import MANIFEST_NAME
from supervisor.core.errors import FAILED, INTERRUPTED, TERMINATED
from supervisor.engine.host import user_key
from supervisor.engine.paths import RunPaths
from supervisor.engine.run_catalog import claims, project
from supervisor.engine.trainer_process.process_identity import MACHINE
from supervisor.fleet.agent.agent_status import LOG
from supervisor.fleet.agent.supervisor_process import SupervisorProcess
from supervisor.fleet.transfer.inbox import KEY, PROJECT, SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.fleet.agent.agent_paths import AgentPaths
    from supervisor.fleet.transfer.inbox import JobSpec
    from supervisor.fleet.transfer.outbox import Outbox

CHECKOUT = Path(__file__).resolve().parents[3]
PROGRAM = "supervisor"
RESTARTS_MAX = 3
SIGNALLED = 128
ENDLESS_S = 7 * 86400.0
LAST_S = 60.0


class AgentJob:
    """``status_text`` describes the progress."""

    def __init__(self, machine: AgentPaths, job: JobSpec, outbox: Outbox) -> None:
        self._machine, self._job, self._acknowledged = machine, job, outbox.acknowledged
        self._origin = outbox.origin
        self._supervisor = SupervisorProcess(machine.agent_folder)
        self.status_text = "starting"

    def advance(self) -> int | None:
        """Start the supervisor if necessary; return the exit code once it has ended for good.

        Raises OSError, StoreError.
        """
        if self._supervisor.alive:
            self.status_text = "preparing the script"  # shown until the supervisor there reports more
            return None
        starts = self._supervisor.starts
        if starts:
            code = self._supervisor.code()
            code = self._recorded_exit_code() if code is None else code
            if code is not None and (code < SIGNALLED or code in {INTERRUPTED, TERMINATED}):
                return code
            restarts_without_progress = sum(each.get("checkpoints") == self._checkpoints for each in starts)
            if restarts_without_progress > RESTARTS_MAX:
                self.status_text = f"the supervisor died {restarts_without_progress} times without a new checkpoint"
                return FAILED
        note = {"cwd": str(self._machine.folder / PROJECT), "checkpoints": self._checkpoints}
        self._supervisor.start(self._command(), self._environ(), self._machine.folder / LOG, note)
        return None

    def end(self) -> None:
        """Ask the supervisor to end, because its files have no place any more."""
        self._supervisor.end()

    @property
    def _checkpoints(self) -> int:
        """Return the number of checkpoints that the computer has."""
        names = (path.rpartition("/")[2] for path in self._acknowledged.held)
        return sum(MANIFEST_NAME.fullmatch(name) is not None for name in names)

    def _command(self) -> list[str]:
        """Return the command line. It takes the run over: no session of another machine can reach this store.

        ``-P``: the project may contain another version of this package.
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
            private.chmod(0o600)  # because not every transfer keeps the mode of a file
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

    def _recorded_exit_code(self) -> int | None:
        """Return the exit code from the end record of this machine's last session."""
        run, store = RunPaths(self._job.name), self._machine.store
        last = max(claims.ranks(store, run), default=None)
        if last is None:
            return None
        local = claims.local_folder(claims.read_claim(store, run, last))
        if local is None or not local.is_relative_to(self._machine.folder):
            return None
        code: Any = claims.read_end(store, run, last).get("exit_code")
        return code if isinstance(code, int) else None
