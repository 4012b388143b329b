"""A store removed under a running agent: work stops there, and the machine is released before it reports a wrong end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.errors import HANDED_OVER, UserError
from supervisor.engine.paths import RunPaths

if TYPE_CHECKING:
    from pathlib import Path

CHECKS = 3  # checks in a row, because a wrong verdict costs a machine
# without its folder no status can be written, until an acknowledgement makes that folder again
REPORT_WITHIN_S = 1800.0


class StoreLost(UserError):  # noqa: N818, because it is an outcome
    """The run's files are gone from the machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"files of the run were removed from the machine while it worked ({path})",
            "what this computer does not hold is lost; the next machine resumes from what it holds",
            HANDED_OVER,
        )


class StoreRecord:
    """The run's record in the store. It is present from the first start to the end, and our code never removes it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen = False
        self._missing = 0

    def is_missing(self, name: str, *, known: bool) -> bool:
        """Check the record; return True if it is missing. Raises StoreLost, OSError.

        Args:
            name: the run.
            known: the record was here before this agent.
        """
        if (self._store / RunPaths(name).record).exists():
            self._seen, self._missing = True, 0
            return False
        if not (self._seen or known):
            return False
        self._missing += 1
        if self._missing >= CHECKS:
            raise StoreLost(self._store)
        return True
