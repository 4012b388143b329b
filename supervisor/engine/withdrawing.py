"""The two records by which a session says for all machines what is not to be gone on from: see ``core.rollback``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core import rollback
from supervisor.engine.publication import create_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.claim import Rank
    from supervisor.engine.job import Job


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
