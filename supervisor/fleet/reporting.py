"""What the agent tells of its machine in status.json, and since when it is there."""

from __future__ import annotations

import fcntl
import json
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor.core import fleet_words as fw
from supervisor.core.claim import rank_of
from supervisor.engine import notes, overview, runs
from supervisor.engine.identity import mine
from supervisor.engine.place import STATUS, RunPlace

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


class Phase(StrEnum):
    """How far a machine's job is."""

    PREPARING = fw.PREPARING
    RUNNING = fw.RUNNING
    HANDING_OVER = fw.HANDING_OVER
    DONE = fw.DONE


class Report:
    """The status of a machine's ``folder``; ``began_s``: when its first agent began, by the boot clock."""

    def __init__(self, folder: Path, began_s: float) -> None:
        self._folder, self._began_s = folder, began_s
        known = read(folder)
        self._beat, self._run = int(known.get("beat", 0)), known.get("run")
        self._since = mine()["since"]

    def age_s(self, clock: Clock) -> float:
        """Return for how long this machine serves."""
        return clock.now().mono_s - self._began_s

    def mend(self, folder: Path) -> None:
        """Note in the agent's folder once more when the first agent of this boot began. Raises OSError."""
        if not (folder / BEGAN).exists():
            notes.write(folder / BEGAN, {"boot": mine()["boot"], "mono_s": self._began_s})

    def write(self, clock: Clock, local_root: Path, more: Mapping[str, Any]) -> None:
        """Replace the status. Raises OSError."""
        self._beat += 1
        self._run = _newest(local_root) or self._run
        failed = more.get("exit_code") not in {None, 0}
        told = {
            "schema": SCHEMA,
            "beat": self._beat,
            "pid": os.getpid(),
            "since": self._since,
            "age_s": round(self.age_s(clock), 3),
            "run": self._run,
            "output": _end_of(self._folder / LOG) if failed else "",
            **more,
        }
        notes.write(self._folder / REPORT, told)


def read(folder: Path) -> dict[str, Any]:
    """Return what was told last; nothing, if nothing was."""
    try:
        told = json.loads((folder / REPORT).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def done(folder: Path) -> int | None:
    """Return the exit code with which an earlier agent was done, or None if there is something to do."""
    told = read(folder)
    code = told.get("exit_code")
    return code if told.get("phase") == Phase.DONE and isinstance(code, int) else None


def failed(folder: Path, error: UserError) -> None:
    """Tell that no agent could begin here. Another try may succeed, so nothing is done for good. Raises OSError."""
    told = {**read(folder), "schema": SCHEMA, "phase": Phase.PREPARING.value, "exit_code": None, "parcels": []}
    notes.write(folder / REPORT, {**told, "pid": os.getpid(), "error": f"{error.what}; {error.hint}"})


def seen(store: Store, name: str, clock: Clock) -> dict[str, Any] | None:
    """Return what the store tells of a run, as `status --json` prints it; None if it never began. Raises StoreError."""
    run = RunPlace(name)
    record = runs.read(store, run)
    return None if record is None else dict(overview.look(store, run, record, clock.now()).plain)


def age(folder: Path, clock: Clock) -> float:
    """Return when the first agent of this boot began, noting it if that is this one."""
    folder.mkdir(parents=True, exist_ok=True)
    here = {"boot": mine()["boot"], "mono_s": clock.now().mono_s}
    try:
        known = json.loads((folder / BEGAN).read_bytes())
        if known["boot"] == here["boot"]:
            return float(known["mono_s"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # the first one, or it was killed in this very line
    notes.write(folder / BEGAN, here)
    return float(here["mono_s"])


def _newest(local_root: Path) -> dict[str, Any] | None:
    """Return the live status of the newest session here, alive or not."""
    found = [each for each in local_root.glob(f"*/*/{STATUS}") if rank_of(each.parent.name)]
    newest = max(found, key=lambda each: (rank_of(each.parent.name), each), default=None)
    told = None if newest is None else notes.live_status(newest)
    return told and {key: told[key] for key in told if key != "store"}


def warnings(folder: Path) -> list[str]:
    """Return the newest warnings that the supervisor here printed, such as that a save failed."""
    lines = _end_of(folder / LOG, WARNINGS_BYTES).splitlines()
    found = [line.removeprefix(WARNING)[:WARNING_CHARS] for line in lines if line.startswith(WARNING)]
    return found[-WARNINGS_MAX:]


def watched(folder: Path) -> bool | None:
    """Say whether a cell waits with the agent, so that its kernel is busy; None where no cell ever did."""
    try:
        fd = os.open(folder / WATCH, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(fd)


def _end_of(log: Path, most_bytes: int = OUTPUT_BYTES) -> str:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - most_bytes))
            return opened.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
