"""A store that is removed under a living agent: nothing goes on there, and the machine is given up before it tells a wrong end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.errors import HANDED_OVER, UserError
from supervisor.engine.paths import RunPaths

if TYPE_CHECKING:
    from pathlib import Path

CHECKS = 3  # one after the other, because a wrong verdict costs a machine
REPORT_WITHIN_S = 1800.0  # without its folder nothing can be told, until a letter from home makes that folder again


class StoreLost(UserError):  # noqa: N818, because it is what is found
    """The files of the run are gone from the machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"files of the run were removed from the machine while it worked ({path})",
            "what this computer does not hold is lost; the next machine resumes from what it holds",
            HANDED_OVER,
        )


class StoreRecord:
    """The run's record in the store: it is there from the first start to the end, and nothing of ours removes it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen = False
        self._missing = 0

    def is_missing(self, name: str, *, known: bool) -> bool:
        """Look; say whether the record is missing. ``known``: it was here before this agent. Raises Lost, OSError."""
        if (self._store / RunPaths(name).record).exists():
            self._seen, self._missing = True, 0
            return False
        if not (self._seen or known):
            return False
        self._missing += 1
        if self._missing >= CHECKS:
            raise StoreLost(self._store)
        return True
