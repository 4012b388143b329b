"""The last launch of a run on this computer, read from its journal for `status`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.fleet.waiting import spent, state_text
from supervisor.core.frozen import dataclass
from supervisor.core.humanize import duration
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.clock import Instant
    from supervisor.core.fleet import messages as fw
    from supervisor.core.fleet.state import Fleet


@dataclass(frozen=True, slots=True)
class LastLaunch:
    """``end``: the end of the launch, None if it has not ended. ``running``: its controller is alive."""

    fleet: Fleet
    end: fw.EndController | None
    running: bool

    def line(self, now: Instant) -> str:
        """Return it as one line for the user."""
        if self.end is not None:
            return f"launch ended: {state_text(self.end.state)}: {self.end.message} · exit code {self.end.exit_code}{self._units(now)}"
        machine = self.fleet.machine
        if machine is None:
            where = "is between two machines" if self.running else "does not run; no machine of it is known to be up"
            return f"launch: its controller {where}{self._units(now)}"
        lived = duration(now.wall_s - self.fleet.service.began_wall_s) if self.fleet.service else "some time"
        on = f"{machine.name or machine.endpoint} for {lived}{self._units(now)}"
        if self.running:
            return f"launch: on {on}"
        return f"launch: its controller does not run; {on} may still run, and the same command attaches to it"

    def plain(self, now: Instant) -> dict[str, Any]:
        """Return it for `status --json`."""
        machine, fleet = self.fleet.machine, self.fleet
        return {
            "running": self.running,
            "state": self.end and self.end.state,
            "exit_code": self.end and self.end.exit_code,
            "words": self.end and self.end.message,
            "machine": machine and machine.endpoint,
            "machines": len(fleet.machine_history) - fleet.earlier_machines + (machine is not None),
            "units_used": None if fleet.units is None else round(fleet.used(now.wall_s), 3),
            "units_per_hour": fleet.units_per_hour,
            "units_left": None if fleet.units is None else round(fleet.left(now.wall_s), 3),
        }

    def _units(self, now: Instant) -> str:
        words = spent(self.fleet, now)
        return f" · {words}" if words else ""


def state_root(environ: Mapping[str, str]) -> Path:
    """Return the folder of controllers' journals and provisioners' records on this computer."""
    if environ.get("SUPERVISOR_RUN_LOCAL"):
        return Path(environ["SUPERVISOR_RUN_LOCAL"]) / "training-supervisor" / "state"
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local/state")
    return Path(state) / "training-supervisor"


def folder(environ: Mapping[str, str], run: str, store: str) -> Path:
    """Return the journal folder of the controller of a run in a store."""
    return state_root(environ) / "fleet" / f"{run}-{digest(str(Path(store).absolute()))}"


def digest(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_last(environ: Mapping[str, str], run: str, store: str) -> LastLaunch | None:
    """Return the last launch of this run, None if there was none here."""
    place = folder(environ, run, store)
    if not (place / "journal.jsonl").is_file():
        return None
    from supervisor.core.fleet import messages as fw
    from supervisor.core.fleet.state import LEFT
    from supervisor.fleet.controller import JOURNAL, LOCK, records, replay

    end = None
    for _, value in records(place / JOURNAL):
        if isinstance(value, fw.ControllerStarted):
            end = None
        elif isinstance(value, fw.EndController):
            end = value if value.state != LEFT else None
    try:
        return LastLaunch(replay(place / JOURNAL), end, running=_is_held(place / LOCK))
    except (OSError, ValueError, KeyError):
        return None  # the next launch reports an unreadable journal


def _is_held(lock: Path) -> bool:
    try:
        return atomic.is_locked(lock)
    except OSError:
        return False
