"""Agent status in status.json, and the start of the agent's service."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.fleet import messages as fw
from supervisor.engine import atomic, json_file
from supervisor.engine.paths import STATUS, RunPaths
from supervisor.engine.run_catalog import run_status, runs
from supervisor.engine.trainer_process.process_identity import mine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from supervisor.core.errors import UserError
    from supervisor.core.ports import Clock, Store

SCHEMA = 1
REPORT = "status.json"
BEGAN = "began.json"
OUTPUT_BYTES = 4000
LOG = "supervisor.log"
WATCH = ".watch.lock"  # held by the cells that wait with the agent
WARNING = "[supervisor] warning: "
WARNINGS_BYTES, WARNINGS_MAX, WARNING_CHARS = 16_000, 3, 300


class AgentPhase(StrEnum):
    """Phase of a machine's job."""

    PREPARING = fw.PREPARING
    RUNNING = fw.RUNNING
    HANDING_OVER = fw.HANDING_OVER
    DONE = fw.DONE


class AgentStatus:
    """The status of a machine's ``folder``. ``began_s``: start of its first agent by the boot clock."""

    def __init__(self, folder: Path, began_s: float) -> None:
        self._folder, self._began_s = folder, began_s
        known = read(folder)
        self._beat, self._run = int(known.get("beat", 0)), known.get("run")
        self._since = mine()["since"]

    def age_s(self, clock: Clock) -> float:
        """Return how long this machine has been serving."""
        return clock.now().mono_s - self._began_s

    def restore(self, folder: Path) -> None:
        """Record again, in the agent's folder, the start of this boot's first agent. Raises OSError."""
        if not (folder / BEGAN).exists():
            json_file.write(folder / BEGAN, {"boot": mine()["boot"], "mono_s": self._began_s})

    def write(self, clock: Clock, local_root: Path, more: Mapping[str, Any]) -> None:
        """Replace the status. Raises OSError."""
        self._beat += 1
        self._run = _newest(local_root) or self._run
        write_failure = more.get("exit_code") not in {None, 0}
        status = {
            "schema": SCHEMA,
            "beat": self._beat,
            "pid": os.getpid(),
            "since": self._since,
            "age_s": round(self.age_s(clock), 3),
            "run": self._run,
            "output": _tail(self._folder / LOG) if write_failure else "",
            **more,
        }
        json_file.write(self._folder / REPORT, status)


def read(folder: Path) -> dict[str, Any]:
    """Return the last status; empty if there is none."""
    try:
        status = json.loads((folder / REPORT).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def done(folder: Path) -> int | None:
    """Return the exit code of an earlier agent that completed its job; None if the job is not done."""
    status = read(folder)
    code = status.get("exit_code")
    return code if status.get("phase") == AgentPhase.DONE and isinstance(code, int) else None


def write_failure(folder: Path, error: UserError) -> None:
    """Record that no agent could start here.

    The job is not marked as done: another attempt may succeed. Raises OSError.
    """
    status = {**read(folder), "schema": SCHEMA, "phase": AgentPhase.PREPARING.value, "exit_code": None, "parcels": []}
    json_file.write(folder / REPORT, {**status, "pid": os.getpid(), "error": f"{error.what}; {error.hint}"})


def stored_status(store: Store, name: str, clock: Clock) -> dict[str, Any] | None:
    """Return a run's status from the store as in `status --json`; None if it never started. Raises StoreError."""
    run = RunPaths(name)
    record = runs.read(store, run)
    return None if record is None else dict(run_status.look(store, run, record, clock.now()).plain)


def age(folder: Path, clock: Clock) -> float:
    """Return the start of this boot's first agent. If this is the first one, record it."""
    folder.mkdir(parents=True, exist_ok=True)
    here = {"boot": mine()["boot"], "mono_s": clock.now().mono_s}
    try:
        known = json.loads((folder / BEGAN).read_bytes())
        if known["boot"] == here["boot"]:
            return float(known["mono_s"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # the first agent, or one killed before its first record
    json_file.write(folder / BEGAN, here)
    return float(here["mono_s"])


def _newest(local_root: Path) -> dict[str, Any] | None:
    """Return the live status of this machine's newest session, running or not."""
    found = [each for each in local_root.glob(f"*/*/{STATUS}") if parse_session_id(each.parent.name)]
    newest = max(found, key=lambda each: (parse_session_id(each.parent.name), each), default=None)
    status = None if newest is None else json_file.live_status(newest)
    return status and {key: status[key] for key in status if key != "store"}


def warnings(folder: Path) -> list[str]:
    """Return the newest warnings of this machine's supervisor, such as a failed save."""
    lines = _tail(folder / LOG, WARNINGS_BYTES).splitlines()
    found = [line.removeprefix(WARNING)[:WARNING_CHARS] for line in lines if line.startswith(WARNING)]
    return found[-WARNINGS_MAX:]


def is_watched(folder: Path) -> bool | None:
    """Return True if a cell waits with the agent, so that its kernel is busy; None if no cell ever did."""
    try:
        fd = os.open(folder / WATCH, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return not atomic.lock(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _tail(log: Path, most_bytes: int = OUTPUT_BYTES) -> str:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - most_bytes))
            return opened.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
