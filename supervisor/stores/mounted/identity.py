"""Each run's record as it was when first seen. It is written once, so another one means another drive in the same place.

But two machines that begin a run at the same time both write it, and one of the two stays. So what this session wrote itself,
its claim, is the better witness, and until there is one, a mount that was held all the time is the same mount.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

from supervisor.core.ports import NotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.stores.mounted.guard import MountGuard

RECORD, CLAIM = "run.json", "claim.json"


class MountIdentity:
    """``marks``: the digest of each run's record, and of what we wrote by its path; ``read`` reads a path of the store."""

    def __init__(self, guard: MountGuard, read: Callable[[str], bytes]) -> None:
        self.record_digests: dict[str, str] = {}
        self._guard, self._read = guard, read
        self._verified_at: set[tuple[str, int]] = set()
        self._recorded_at: dict[str, int] = {}

    def require_unchanged(self, path: str) -> None:
        """Before anything is written below a run: raise StoreError "gone" unless its record is what it was."""
        run, _, rest = path.partition("/")
        if not run or (run not in self.record_digests and not rest):
            return
        try:
            body = self._read(f"{run}/{RECORD}")
        except NotFound:
            if run in self.record_digests and not self._own_file_present(run):
                self._refuse(f"{run}/{RECORD} is not there any more")
            return
        self.record_read(f"{run}/{RECORD}", body)
        self._verified_at.add((run, self._guard.opened))

    def require_unchanged_once(self, path: str) -> None:
        """Before anything is said about a run: see its record, once after each time that the mount was opened."""
        if (path.partition("/")[0], self._guard.opened) not in self._verified_at:
            self.require_unchanged(path)

    def record_read(self, path: str, body: bytes) -> None:
        """Take in what was read or written, if it is a record. A part of one, on its way here, is none yet."""
        if not is_record(path):
            return
        run, record_digest, opened = path.partition("/")[0], _digest(body), self._guard.opened
        if run in self.record_digests and self.record_digests[run] != record_digest and not self._own_file_present(run):
            if self._recorded_at.get(run) != opened:
                self._refuse(f"{path} is another than before")
            del self.record_digests[run]
        if run not in self.record_digests and _is_complete(body):
            self.record_digests[run], self._recorded_at[run] = record_digest, opened

    def record_written(self, path: str, body: bytes) -> None:
        """Take in what was written: nobody else writes under such a name, so where it is, our drive is."""
        self.record_read(path, body)
        if path.endswith(f"/{CLAIM}"):
            self.record_digests[path] = _digest(body)

    def forget(self, path: str) -> None:
        """Forget a record that was deleted on purpose."""
        if is_record(path):
            self.record_digests.pop(path.partition("/")[0], None)

    def _own_file_present(self, run: str) -> bool:
        """Whether something that we wrote into this run is there."""
        for path, record_digest in self.record_digests.items():
            if path.startswith(f"{run}/"):
                with contextlib.suppress(NotFound):
                    return _digest(self._read(path)) == record_digest
        return False

    def _refuse(self, words: str) -> None:
        self._guard.release()
        raise StoreError(f"{words}: this may be another drive", "gone")


def is_record(path: str) -> bool:
    """Whether a path is that of a run's record."""
    return path.partition("/")[2] == RECORD


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _is_complete(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
