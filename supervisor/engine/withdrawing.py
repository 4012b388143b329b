"""The records by which a session says for all machines what is not to be gone on from, or must stay: see ``core.rollback``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core import nonfinite, rollback
from supervisor.core.claim import Rank
from supervisor.engine.publication import create_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Store
    from supervisor.engine.job import Job
    from supervisor.engine.place import RunPlace


def record(job: Job, order: rollback.Rollback, words: str, fence: Callable[[], tuple[str, ...] | None]) -> ev.Event:
    """Record what the session withdraws, unless it is outranked by now: then nothing of it counts. Raises StoreError."""
    if outranked := fence():
        return ev.FenceSeen(outranked)
    body = json.dumps({"words": words}, ensure_ascii=False).encode()
    create_once(job.store, f"{job.run.session(order.rank)}/{order.name}", body)
    return ev.RollbackWritten()


def begin_anew(job: Job, mine: Rank) -> None:
    """Record that the session begins at step 0 on purpose: no rollback before it holds for those who go on from it."""
    create_once(job.store, f"{job.run.session(mine)}/{rollback.ANEW_NAME}", b"{}")


class Nonfinites:
    """The losses of this session that are no number: seen on the loop's thread, written on the lanes."""

    def __init__(self) -> None:
        self.rank = Rank(0, "")
        self._seen: dict[str, str] = {}
        self._written: set[str] = set()

    def saw(self, fine: int, step: int, words: str) -> None:
        """Take one up; a repeated one is the same."""
        self._seen.setdefault(nonfinite.Nonfinite(self.rank, fine, step).name, words)

    @property
    def waiting(self) -> bool:
        """Whether one is not on record yet."""
        return len(self._seen) > len(self._written)

    def write(self, store: Store, run: RunPlace) -> None:
        """Put on record what is not. Raises StoreError."""
        for name, words in tuple(self._seen.items()):
            if name not in self._written:
                body = json.dumps({"words": words}, ensure_ascii=False).encode()
                create_once(store, f"{run.session(self.rank)}/{name}", body)
                self._written.add(name)
