"""The store of a machine of the fleet: a folder whose files count as safe when the user's computer holds them.

The agent on the machine carries them there and writes down, beside the folder, what the computer has said it holds:
each file whole, its digest compared. That list is the only evidence.
"""

from __future__ import annotations

import os
from dataclasses import replace

from supervisor.core.ports import StoreError, Unconfirmed
from supervisor.core.relayed import NAME, Acknowledged
from supervisor.stores import disk
from supervisor.stores.failures import translated
from supervisor.stores.folder import FolderStore

EVIDENCE = "relay"
PLACE = "your computer"
CONFIRM_EVERY_S = 1.0  # a look at a local file costs next to nothing


class RelayStore(FolderStore):
    """A folder store in all but its evidence."""

    def __init__(self, root: str, *, settle_s: float = 0.0) -> None:
        super().__init__(root, settle_s=settle_s)
        self.traits = replace(self.traits, evidence=EVIDENCE, place=PLACE, confirm_every_s=CONFIRM_EVERY_S)
        self._list = os.path.join(os.path.dirname(self.root), NAME)
        self._acknowledged, self._heard_bytes = Acknowledged(), 0

    def evidence(self, path: str) -> str:
        """Return the proof if the computer holds the file; until then Unconfirmed; kind "lied" if it does not take it."""
        with translated(path):
            with self._reading(path):
                pass  # Missing, if it is: what is told of it counts only while it is there
            arrived = len(self._acknowledged.parcels)
            self._hear()
        if path in self._acknowledged.refused:
            raise StoreError(f"your computer does not take {path}: {self._acknowledged.refused[path]}", "lied")
        if path not in self._acknowledged.held:
            moving = len(self._acknowledged.parcels) > arrived
            raise Unconfirmed("your computer has not fetched it yet", moving=moving)
        return self.traits.evidence

    def _hear(self) -> None:
        """Read what was added to the list."""
        try:
            fd = os.open(self._list, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with disk.closing(fd):
            if os.fstat(fd).st_size < self._heard_bytes:
                self._acknowledged, self._heard_bytes = Acknowledged(), 0
            os.lseek(fd, self._heard_bytes, os.SEEK_SET)
            for chunk in disk.chunks(fd):
                self._acknowledged.read(chunk)
                self._heard_bytes += len(chunk)
