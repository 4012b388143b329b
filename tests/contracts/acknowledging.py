"""A relay's store beside which home says at once that it holds what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.relayed import line
from supervisor.stores.relay import RelayStore

if TYPE_CHECKING:
    from supervisor.core.ports import Measured


class AcknowledgingStore(RelayStore):
    """Home fetches between two questions: the first time that it is asked about a file it has not yet done so."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._written: list[str] = []

    def create(self, path: str, body: bytes) -> None:
        """Create, and let home have it."""
        super().create(path, body)
        self._written.append(path)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Push, and let home have it."""
        measured = super().push(local, path, algorithm, link=link)
        self._written.append(path)
        return measured

    def evidence(self, path: str) -> str:
        """Ask what the list says, and have home say more."""
        try:
            return super().evidence(path)
        finally:
            with open(self._list, "ab") as told:  # noqa: PTH123, because the store's own paths are texts
                told.write(line({"held": self._written}))
            self._written = []
