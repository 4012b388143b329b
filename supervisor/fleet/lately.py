"""The newest word of a launch on this computer, for commands that look at its run: by its journal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.fleet_waiting import spent, spoken_state
from supervisor.core.spoken import duration
from supervisor.core.values import dataclass
from supervisor.engine.orphans import is_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core import fleet_words as fw
    from supervisor.core.fleet_state import Fleet
    from supervisor.core.instant import Instant


@dataclass(frozen=True, slots=True)
class Lately:
    """``end``: how the launch ended, None where it did not; ``running``: its controller lives."""

    fleet: Fleet
    end: fw.End | None
    running: bool

    def line(self, now: Instant) -> str:
        """Return it as one line for people."""
        if self.end is not None:
            return f"launch ended: {spoken_state(self.end.state)}: {self.end.words} · exit code {self.end.exit_code}{self._units(now)}"
        machine = self.fleet.machine
        if machine is None:
            where = "is between two machines" if self.running else "does not run; no machine of it is known to be up"
            return f"launch: its controller {where}{self._units(now)}"
        lived = duration(now.wall_s - self.fleet.life.began_wall_s) if self.fleet.life else "some time"
        on = f"{machine.name or machine.endpoint} for {lived}{self._units(now)}"
        if self.running:
            return f"launch: on {on}"
        return f"launch: its controller does not run; {on} may go on, and the same command takes it up"

    def plain(self, now: Instant) -> dict[str, Any]:
        """Return it as `status --json` prints it."""
        machine, fleet = self.fleet.machine, self.fleet
        return {
            "running": self.running,
            "state": self.end and self.end.state,
            "exit_code": self.end and self.end.exit_code,
            "words": self.end and self.end.words,
            "machine": machine and machine.endpoint,
            "machines": len(fleet.lives) - fleet.lives_before + (machine is not None),
            "units_used": None if fleet.units is None else round(fleet.used(now.wall_s), 3),
            "units_per_hour": fleet.units_per_hour,
            "units_left": None if fleet.units is None else round(fleet.left(now.wall_s), 3),
        }

    def _units(self, now: Instant) -> str:
        words = spent(self.fleet, now)
        return f" · {words}" if words else ""


def state_root(environ: Mapping[str, str]) -> Path:
    """Return where controllers keep their journals and provisioners what they know: on this computer, kept."""
    if environ.get("SUPERVISOR_RUN_LOCAL"):
        return Path(environ["SUPERVISOR_RUN_LOCAL"]) / "training-supervisor" / "state"
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local/state")
    return Path(state) / "training-supervisor"


def folder(environ: Mapping[str, str], run: str, store: str) -> Path:
    """Return where the controller of a run in a store keeps its journal."""
    return state_root(environ) / "fleet" / f"{run}-{digest(str(Path(store).absolute()))}"


def digest(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def look(environ: Mapping[str, str], run: str, store: str) -> Lately | None:
    """Return the newest word of the launch of this run, None where there never was one here."""
    place = folder(environ, run, store)
    if not (place / "journal.jsonl").is_file():
        return None
    from supervisor.core import fleet_words as fw
    from supervisor.core.fleet_state import LEFT
    from supervisor.fleet.controller import JOURNAL, LOCK, folded, records

    end = None
    for _, value in records(place / JOURNAL):
        if isinstance(value, fw.Began):
            end = None
        elif isinstance(value, fw.End):
            end = value if value.state != LEFT else None
    try:
        return Lately(folded(place / JOURNAL), end, running=_is_held(place / LOCK))
    except (OSError, ValueError, KeyError):
        return None  # a journal that cannot be read is the next launch's affair


def _is_held(lock: Path) -> bool:
    try:
        return is_held(lock)
    except OSError:
        return False
