"""The store of a fleet machine: a folder whose files count as durable when the user's computer has received them.

The agent on the machine transfers the files. Beside the folder it writes a log of the files that the computer
acknowledged, each complete and with its digest compared. That log is the only evidence.
"""

from __future__ import annotations

import os
from dataclasses import replace

from supervisor.core.ports import NotConfirmed, StoreError
from supervisor.core.wire.acks import NAME, AckLog
from supervisor.stores.local import files as local_files
from supervisor.stores.local.folder import FolderStore
from supervisor.stores.os_errors import as_store_error

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
