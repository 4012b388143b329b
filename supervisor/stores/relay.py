"""The store on a machine of the fleet: a local folder whose files are durable when the user's computer holds them.

Theory of operation

Rules:

1. Reads and writes are those of ``FolderStore``. Only ``evidence`` and the traits differ.
2. The agent, a separate process, sends the files to the user's computer (``fleet.transfer``). The computer verifies
   each file by its digest and acknowledges it.
3. The agent appends each acknowledgement to ``acknowledged.jsonl`` beside the store's folder. This list is the only
   confirmation (I4). The store never asks the agent or the network.
4. ``evidence`` reads what was appended since the last call. A shorter list than before is read again from its start.
5. An acknowledgement counts only while the file is still in the folder.

Cases of ``evidence``:

- The list names the file as complete: returns "relay".
- The list names it as refused: ``StoreError``, kind "lied". The upload fails, because waiting cannot help.
- The list names neither: ``NotConfirmed``. It is marked as moving if a part arrived since the last call, so that
  a slow transfer is not replaced by a newer checkpoint.
- The file is not in the folder: ``NotFound``.
- The computer is asleep or offline: nothing is appended, and the checkpoint stays pending. Training continues.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core.ports import NotConfirmed, StoreError
from supervisor.core.wire.acks import NAME, AckLog
from supervisor.stores.local import files as local_files
from supervisor.stores.local.folder import FolderStore
from supervisor.stores.os_errors import as_store_error

if TYPE_CHECKING:
    from typing import Self

    from supervisor.stores import StorePlace

EVIDENCE = "relay"
PLACE = "your computer"
CONFIRM_EVERY_S = 1.0  # reading a local file costs almost nothing


class RelayStore(FolderStore):
    """A folder store whose evidence is the computer's acknowledgement."""

    def __init__(self, root: str, *, settle_s: float = 0.0) -> None:
        super().__init__(root, settle_s=settle_s)
        self.traits = replace(self.traits, evidence=EVIDENCE, place=PLACE, confirm_every_s=CONFIRM_EVERY_S)
        self._list = os.path.join(os.path.dirname(self.root), NAME)
        self._acks, self._ack_log_bytes = AckLog(), 0

    @classmethod
    def open_at(cls, place: StorePlace) -> Self:
        """Return the store at a place. A local folder needs no visibility delay."""
        return cls(place.where)

    def evidence(self, path: str) -> str:
        """Return the evidence if the computer has the file.

        Raises:
            NotConfirmed: the computer has not acknowledged it yet.
            StoreError: kind "lied" if the computer rejected it.
        """
        with as_store_error(path):
            with self._reading(path):
                pass  # raises NotFound: an acknowledgement counts only while the file is present
            parts_before = len(self._acks.parcels)
            self._read_ack_log()
        if path in self._acks.refused:
            raise StoreError(f"your computer does not take {path}: {self._acks.refused[path]}", "lied")
        if path not in self._acks.held:
            moving = len(self._acks.parcels) > parts_before
            raise NotConfirmed("your computer has not fetched it yet", moving=moving)
        return self.traits.evidence

    def _read_ack_log(self) -> None:
        """Read the new lines of the acknowledgement log."""
        try:
            fd = os.open(self._list, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with local_files.closing(fd):
            if os.fstat(fd).st_size < self._ack_log_bytes:
                self._acks, self._ack_log_bytes = AckLog(), 0
            os.lseek(fd, self._ack_log_bytes, os.SEEK_SET)
            for chunk in local_files.chunks(fd):
                self._acks.read(chunk)
                self._ack_log_bytes += len(chunk)
