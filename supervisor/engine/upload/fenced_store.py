"""Store wrapper of one session. A superseded session writes and deletes nothing through it (I10).

Theory of operation

The stores have no conditional write, no lock and no common clock. Two processes can therefore both believe that they
own a run. Fencing does not prevent that. It makes the older process harmless.

Rules:

1. Each session has an id, ``SessionId(generation, writer)``. The generation is one above every generation in the
   listing (I11). The writer is random, so that two simultaneous claims still differ.
2. A session claims by writing ``claim.json`` into a folder that is named by its id. Nobody else writes there (I8).
3. Ids are ordered by generation, then by writer. Every reader of the same listing finds the same highest id (I5).
4. A session that sees a higher id is superseded. This is permanent: a later listing without that id is a stale one.
5. Every listing of the run's folder is a fence check, whatever it was made for.
6. From then on ``list`` and every write or delete raise ``FencedError``. ``read``, ``pull`` and ``evidence`` go on.
7. ``superseded`` also requires the session's own folder in the listing. Without it the listing proves nothing, and
   the call raises ``StoreError``, kind "gone".

Cases:

- Two machines claim at the same time. Each waits the settle time, in which late files become visible, and lists
  again. The higher id goes on, the other ends.
- The owner may still be alive. A newcomer writes a probe, ``knock-<id>-<nonce>.json``, before it claims. The owner
  checks the fence every few seconds and answers with ``here-<n>-<nonce>.json``. An answer, and any other new name in
  the owner's folder, counts as life. Silence counts by the newcomer's own clock only (I12).
- The owner was suspended and wakes up. It suspends its writes, lists until a settle time has passed since it woke, and
  continues only if no higher id appeared.
- A write was already in the kernel when the fence fell. It lands in the folder of the superseded session. Readers
  accept it or skip it like any other checkpoint, ordered by (generation, step).
- Somebody creates a folder with a huge generation. ``believed`` ignores ids that no session can have reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import superseded_by
from supervisor.core.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.ports import FileDigest, FolderEntry, Store
    from supervisor.engine.paths import RunPaths


class FencedError(Exception):
    """Another session has a higher id, so nothing more may be written. ``names`` is the listing that showed it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__("outranked")
        self.names = names


class FencedStore:
    """Wrapper of any store for one session, see the module docstring."""

    def __init__(self, inner: Store, run: RunPaths, rank: SessionId) -> None:
        self.inner, self.traits = inner, inner.traits
        self.superseded_listing: tuple[str, ...] | None = None
        self._run, self._rank = run, rank

    def look(self) -> tuple[str, ...]:
        """List the run and return its names, even if another session is higher."""
        return self._seen(self.inner.list(self._run.name))

    def superseded(self) -> tuple[str, ...] | None:
        """List the run; return the names if this or an earlier listing shows a higher session.

        Raises StoreError if the session's own folder is not listed: the listing then proves nothing.
        """
        names = self.look()
        if self.superseded_listing is None and str(self._rank) not in names:
            raise StoreError("the session's own folder is not there", "gone")
        return self.superseded_listing

    def check_fence(self) -> None:
        """List the run; raise FencedError if another session is higher."""
        names = self.superseded()
        if names is not None:
            raise FencedError(names)

    def list(self, folder: str) -> Sequence[FolderEntry]:
        """List a folder; raise FencedError if the session is superseded."""
        entries = self.inner.list(folder)
        if folder == self._run.name:
            self._seen(entries)
        self._require_owner()
        return entries

    def read(self, path: str) -> bytes:
        """Read a file."""
        return self.inner.read(path)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy a file to the local disk."""
        return self.inner.pull(path, local, algorithm, link=link)

    def create(self, path: str, body: bytes) -> None:
        """Create a file, unless superseded."""
        self._require_owner()
        self.inner.create(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy a file into the store, unless superseded."""
        self._require_owner()
        return self.inner.push(local, path, algorithm, link=link)

    def delete(self, path: str) -> None:
        """Delete, unless superseded."""
        self._require_owner()
        self.inner.delete(path)

    def evidence(self, path: str) -> str:
        """Return the store's confirmation of a file."""
        return self.inner.evidence(path)

    def free_bytes(self) -> int | None:
        """Return the free space."""
        return self.inner.free_bytes()

    def sweep(self, folder: str) -> int:
        """Remove temporary files of dead writers, unless superseded."""
        self._require_owner()
        return self.inner.sweep(folder)

    def _seen(self, entries: Sequence[FolderEntry]) -> tuple[str, ...]:
        names = tuple(entry.name for entry in entries)
        if self.superseded_listing is None and superseded_by(names, self._rank):
            self.superseded_listing = names
        return names

    def _require_owner(self) -> None:
        if self.superseded_listing is not None:
            raise FencedError(self.superseded_listing)
