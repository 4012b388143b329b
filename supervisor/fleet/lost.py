"""A store that is removed under a living agent: nothing goes on there, and the machine is given up before it tells a wrong end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.errors import HANDED_OVER, UserError
from supervisor.engine.place import RunPlace

if TYPE_CHECKING:
    from pathlib import Path

LOOKS = 3  # one after the other, because a wrong verdict costs a machine
TOLD_WITHIN_S = 1800.0  # without its folder nothing can be told, until a letter from home makes that folder again


class Lost(UserError):  # noqa: N818, because it is what is found
    """The files of the run are gone from the machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"files of the run were removed from the machine while it worked ({path})",
            "what this computer does not hold is lost; the next machine goes on from what it holds",
            HANDED_OVER,
        )


class Record:
    """The run's record in the store: it is there from the first start to the end, and nothing of ours removes it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen = False
        self._missing = 0

    def in_doubt(self, name: str, *, known: bool) -> bool:
        """Look; say whether the record is missing. ``known``: it was here before this agent. Raises Lost, OSError."""
        if (self._store / RunPlace(name).record).exists():
            self._seen, self._missing = True, 0
            return False
        if not (self._seen or known):
            return False
        self._missing += 1
        if self._missing >= LOOKS:
            raise Lost(self._store)
        return True
