"""How much one machine may have at home: it fills neither the user's disk nor its folders, whatever runs on it.

What retention has removed counts no more, so a long training is not stopped by it. A machine of which more comes is not
believed in what is over the bounds; the controller says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.claim import rank_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

FILES_MAX = 200_000
SESSIONS_MAX = 1000  # a machine serves one, and one more after each time its supervisor died
RESERVE_BYTES = 2 * 10**9  # stays free for all else that the user does


class Budget:
    """``before``: the number of the last session before this machine; ``bytes_max``: what it may have here, None for no bound."""

    def __init__(self, store: Store, run: RunPlace, before: int, bytes_max: int | None) -> None:
        self._store, self._run, self._before, self._bytes_max = store, run, before, bytes_max
        self._held: dict[str, int] | None = None

    def refused(self, path: str, total: int, arriving: Callable[[], Mapping[str, int]]) -> str:
        """Return why a file is not taken beside those that lie here, "" where it is; a taken one counts from now on.

        ``arriving`` tells the files that are here in part, with their bytes. Raises StoreError.
        """
        rank = rank_of(path.partition("/")[0])
        if rank is not None and rank.epoch > self._before + SESSIONS_MAX:
            return f"no machine serves {SESSIONS_MAX:,} sessions"
        if self._held is None:
            self._held = {**arriving(), **self._listed()}
        if path in self._held:
            return ""
        if len(self._held) >= FILES_MAX:
            return f"{FILES_MAX:,} files of this machine are here already, which is as many as one may send"
        there = sum(self._held.values())
        if self._bytes_max is not None and there + total > self._bytes_max:
            return (
                f"with its {total / 1e9:,.1f} GB this machine would have {(there + total) / 1e9:,.1f} GB here, and "
                f"{self._bytes_max / 1e9:,.1f} GB are what this disk can spare"
            )
        self._held[path] = total
        return ""

    def _listed(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in self._store.list(self._run.name):
            rank = rank_of(entry.name)
            if rank is None or not entry.folder or rank.epoch <= self._before:
                continue
            for inside in self._store.list(f"{self._run.name}/{entry.name}"):
                path = f"{entry.name}/{inside.name}"
                if not inside.folder:
                    found[path] = inside.bytes or 0
                    continue
                for each in self._store.list(f"{self._run.name}/{path}"):
                    found[f"{path}/{each.name}"] = each.bytes or 0
        return found


def spare_bytes(store: Store) -> int | None:
    """Return how much of the store's disk a machine may fill from now on, None where that is not known.

    A mounted drive is not asked: where it does not answer, it would keep the controller for ever.
    """
    if store.traits.mounted:
        return None
    folder = Path(store.traits.where)
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None
    return max(free - RESERVE_BYTES, free // 2)
