"""Sessions that live on this machine, found on its own disk alone: for when their store does not answer."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core.claim import Rank, rank_of
from supervisor.core.values import dataclass
from supervisor.engine import notes
from supervisor.engine.identity import started
from supervisor.engine.place import STATUS, SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Here:
    """A session whose supervisor lives: ``folder`` is its own on the local disk, ``plain`` its live status."""

    rank: Rank
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
        """Where its store is; "" if its status does not say."""
        return str(self.plain.get("store") or "")

    @property
    def lives(self) -> bool:
        """Whether the supervisor still runs: this very process, not another of its number."""
        return started(self.pid) == self.since

    def again(self) -> Here:
        """Return it with its status as it is now; where that is gone with the session, as it was last seen."""
        return replace(self, plain=notes.live_status(self.folder / STATUS) or self.plain)

    def signal(self, number: int) -> None:
        """Send the supervisor a signal; one that has ended meanwhile needs none."""
        with suppress(ProcessLookupError):
            if self.lives:
                os.kill(self.pid, number)


def living(local_root: Path) -> Iterator[Here]:
    """Yield all of this machine's living sessions. ``local_root``: where sessions keep their local folders."""
    for run in _folders(local_root):
        for folder in _folders(run):
            rank = rank_of(folder.name)
            plain, noted = notes.live_status(folder / STATUS), notes.process(folder / SUPERVISOR)
            if rank is None or plain is None or noted is None:
                continue
            found = Here(rank, folder, plain, *noted)
            if found.lives:
                yield found


def _folders(above: Path) -> list[Path]:
    try:
        return sorted(each for each in above.iterdir() if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
