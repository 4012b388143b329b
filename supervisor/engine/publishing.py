"""The live status on the local disk, for `status` and the views of this machine."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.status import to_json
from supervisor.engine import notes
from supervisor.engine.arrival import Arrival

if TYPE_CHECKING:
    from supervisor.core.instant import Instant
    from supervisor.engine.executor import Executor
    from supervisor.engine.journal import Journal

EVERY_S = 1.0


class LiveStatus:
    """Writes ``status.json`` of the session at most once a second, and at once when something became safe or ended.

    It also names the store, because with this file alone ``status`` and ``stop`` work while that does not answer, and
    tells how long the way to the first new step was.
    """

    def __init__(self, executor: Executor, journal: Journal) -> None:
        self._executor, self._journal = executor, journal
        self._written_s = 0.0
        self._opened = False
        self._arrival = Arrival()

    def record(self, now: Instant, value: Any) -> None:
        """See a record; open the local journal once the session has its folder."""
        arrived = self._arrival.see(now, value, self._journal.status)
        local = self._executor.storing.local
        if isinstance(value, ev.ClaimWritten) and not self._opened:
            self._opened = True
            self._journal.open_spool(local.journal)
        if not self._opened:
            return
        urgent = arrived or isinstance(value, ev.Durable | do.WriteEnd | ev.Launched)
        if urgent or now.mono_s - self._written_s >= EVERY_S:
            self._written_s = now.mono_s
            with suppress(OSError):  # a full local disk makes `status` here old; it must not end the session
                self._executor.mend()
                where = self._executor.job.store.traits.where
                told = {**to_json(self._journal.status, now), "store": where, "arrival": self._arrival.told}
                notes.write(local.status, told)
