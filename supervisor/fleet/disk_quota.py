"""Disk space of one machine on this computer: no machine can fill the user's disk or its folders.

Pruned files do not count, so the limit never stops a long training. Files above the limit are rejected, and the
controller reports that.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import parse_session_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

FILES_MAX = 200_000
SESSIONS_MAX = 1000  # a machine serves one, and one more after each death of its supervisor
RESERVE_BYTES = 2 * 10**9  # stays free for the user's other work


class Budget:
    """Space of one machine.

    Args:
        store: the local store.
        run: the run.
        before: number of the last session before this machine.
        bytes_max: the limit, None for no limit.
    """

    def __init__(self, store: Store, run: RunPaths, before: int, bytes_max: int | None) -> None:
        self._store, self._run, self._before, self._bytes_max = store, run, before, bytes_max
        self._held: dict[str, int] | None = None

    def refused(self, path: str, total: int, partial_bytes: Callable[[], Mapping[str, int]]) -> str:
        """Return why a file is rejected, "" if it is accepted; an accepted one counts from now on. Raises StoreError.

        Args:
            path: path of the file.
            total: its length.
            arriving: returns the partly received files and their bytes.
        """
        rank = parse_session_id(path.partition("/")[0])
        if rank is not None and rank.generation > self._before + SESSIONS_MAX:
            return f"no machine serves {SESSIONS_MAX:,} sessions"
        if self._held is None:
            self._held = {**partial_bytes(), **self._listed()}
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
            rank = parse_session_id(entry.name)
            if rank is None or not entry.folder or rank.generation <= self._before:
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
    """Return the bytes of the store's disk that a machine may fill; None if unknown.

    A mounted drive is not asked: if it hangs, it would block the controller for ever.
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
