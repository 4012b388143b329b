"""Identity of a mount: the digest of each run's record as first read.

A record is written once, so a changed one means another drive.

Exception: two machines that start a run at the same time both write the record, and one of the two stays. The session's
own claim is therefore the stronger identification. Before there is a claim, a mount that stayed open counts as the same
mount.
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
    """Digests that identify a mount.

    Args:
        guard: guard of the mount.
        read: reads a path of the store.

    ``record_digests`` holds the digest of each run's record by run, and of our own claims by path.
    """

    def __init__(self, guard: MountGuard, read: Callable[[str], bytes]) -> None:
        self.record_digests: dict[str, str] = {}
        self._guard, self._read = guard, read
        self._verified_at: set[tuple[str, int]] = set()
        self._recorded_at: dict[str, int] = {}

    def require_unchanged(self, path: str) -> None:
        """Raise StoreError "gone" unless the run's record is unchanged. Call it before each write below a run."""
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
        """Check a run's record once after each opening of the mount. Call it before reporting anything about a run."""
        if (path.partition("/")[0], self._guard.opened) not in self._verified_at:
            self.require_unchanged(path)

    def record_read(self, path: str, body: bytes) -> None:
        """Note the digest of a body if it is a complete record. A partly arrived record does not count."""
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
        """Note the digest of a body that we wrote.

        No other writer uses the path of our claim, so it identifies our drive.
        """
        self.record_read(path, body)
        if path.endswith(f"/{CLAIM}"):
            self.record_digests[path] = _digest(body)

    def forget(self, path: str) -> None:
        """Forget a record that was deleted on purpose."""
        if is_record(path):
            self.record_digests.pop(path.partition("/")[0], None)

    def _own_file_present(self, run: str) -> bool:
        """Return True if a file that we wrote into this run is present."""
        for path, record_digest in self.record_digests.items():
            if path.startswith(f"{run}/"):
                with contextlib.suppress(NotFound):
                    return _digest(self._read(path)) == record_digest
        return False

    def _refuse(self, words: str) -> None:
        self._guard.release()
        raise StoreError(f"{words}: this may be another drive", "gone")


def is_record(path: str) -> bool:
    """Return True if a path is that of a run's record."""
    return path.partition("/")[2] == RECORD


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _is_complete(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
