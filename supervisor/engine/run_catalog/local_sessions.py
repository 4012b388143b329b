"""Live sessions on this machine, found on its disk alone. Used while their store does not answer."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.core.frozen import dataclass
from supervisor.engine import json_file
from supervisor.engine.paths import STATUS, SUPERVISOR
from supervisor.engine.trainer_process.process_identity import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalSession:
    """A session with a live supervisor. ``folder`` is its local folder, ``plain`` its live status."""

    rank: SessionId
    folder: Path
    plain: Mapping[str, Any]
    pid: int
    since: str

    @property
    def run(self) -> str:
        """The run's name."""
        return str(self.plain.get("run", ""))

    @property
    def store(self) -> str:
        """The path of its store, "" if unknown."""
        return str(self.plain.get("store") or "")

    @property
    def alive(self) -> bool:
        """Whether exactly this supervisor process is still running."""
        return started(self.pid) == self.since

    def refreshed(self) -> LocalSession:
        """Return it with its current status, or with the last one if the session is gone."""
        return replace(self, plain=json_file.live_status(self.folder / STATUS) or self.plain)

    def signal(self, number: int) -> None:
        """Send the supervisor a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, number)


def alive_sessions(local_root: Path) -> Iterator[LocalSession]:
    """Yield all live sessions of this machine. ``local_root`` is the parent of their local folders."""
    for run in _folders(local_root):
        for folder in _folders(run):
            rank = parse_session_id(folder.name)
            plain, noted = json_file.live_status(folder / STATUS), json_file.process(folder / SUPERVISOR)
            if rank is None or plain is None or noted is None:
                continue
            found = LocalSession(rank, folder, plain, *noted)
            if found.alive:
                yield found


def _folders(above: Path) -> list[Path]:
    try:
        return sorted(each for each in above.iterdir() if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
