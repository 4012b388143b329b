"""Records of rollbacks and non-finite losses in a session's folder, see ``core.policy.rollback``."""

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
    """Record a rollback, unless the session is superseded: then it must not count. Raises StoreError."""
    if outranked := store.superseded():
        return ev.FenceChecked(outranked)
    body = json.dumps({"words": words}, ensure_ascii=False).encode()
    create_idempotent(store.inner, f"{run.session(order.session_id)}/{order.name}", body)
    return ev.RollbackWritten()


def record_fresh_start(job: SessionContext, mine: SessionId) -> None:
    """Record that the session starts at step 0 on purpose. Earlier rollbacks do not apply to its successors."""
    create_idempotent(job.store, f"{job.run.session(mine)}/{rollback.ANEW_NAME}", b"{}")


class Nonfinites:
    """Non-finite losses of this session: noted on the loop's thread, recorded on the queues."""

    def __init__(self) -> None:
        self.rank = SessionId(0, "")
        self._seen: dict[str, str] = {}
        self._written: set[str] = set()

    def note(self, fine: int, step: int, words: str) -> None:
        """Note a loss. A repeated one is ignored."""
        self._seen.setdefault(nonfinite.NonfiniteRecord(self.rank, fine, step).name, words)

    @property
    def unrecorded(self) -> bool:
        """Whether a loss is not recorded yet."""
        return len(self._seen) > len(self._written)

    def write(self, store: Store, run: RunPaths) -> None:
        """Record the noted losses. Raises StoreError."""
        for name, words in tuple(self._seen.items()):
            if name not in self._written:
                body = json.dumps({"words": words}, ensure_ascii=False).encode()
                create_idempotent(store, f"{run.session(self.rank)}/{name}", body)
                self._written.add(name)
