"""The records by which a session says for all machines what is not to be gone on from, or must stay: see ``core.rollback``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import SessionId
from supervisor.core.policy import nonfinite, rollback
from supervisor.core.session import events as ev
from supervisor.engine.upload.uploader import create_idempotent

if TYPE_CHECKING:
    from supervisor.core.ports import Store
    from supervisor.engine.context import SessionContext
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.upload.fenced_store import FencedStore


def record_rollback(store: FencedStore, run: RunPaths, order: rollback.Rollback, words: str) -> ev.Event:
    """Record what the session withdraws, unless it is outranked by now: then nothing of it counts. Raises StoreError."""
    if outranked := store.superseded():
        return ev.FenceChecked(outranked)
    body = json.dumps({"words": words}, ensure_ascii=False).encode()
    create_idempotent(store.inner, f"{run.session(order.session_id)}/{order.name}", body)
    return ev.RollbackWritten()


def record_fresh_start(job: SessionContext, mine: SessionId) -> None:
    """Record that the session begins at step 0 on purpose: no rollback before it holds for those who go on from it."""
    create_idempotent(job.store, f"{job.run.session(mine)}/{rollback.ANEW_NAME}", b"{}")


class Nonfinites:
    """The losses of this session that are no number: seen on the loop's thread, written on the lanes."""

    def __init__(self) -> None:
        self.rank = SessionId(0, "")
        self._seen: dict[str, str] = {}
        self._written: set[str] = set()

    def saw(self, fine: int, step: int, words: str) -> None:
        """Take one up; a repeated one is the same."""
        self._seen.setdefault(nonfinite.NonfiniteRecord(self.rank, fine, step).name, words)

    @property
    def waiting(self) -> bool:
        """Whether one is not on record yet."""
        return len(self._seen) > len(self._written)

    def write(self, store: Store, run: RunPaths) -> None:
        """Put on record what is not. Raises StoreError."""
        for name, words in tuple(self._seen.items()):
            if name not in self._written:
                body = json.dumps({"words": words}, ensure_ascii=False).encode()
                create_idempotent(store, f"{run.session(self.rank)}/{name}", body)
                self._written.add(name)
