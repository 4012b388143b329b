"""The store as a session may use it for publishing and removing: once outranked, it writes and deletes nothing more (I10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.claim import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Entry, Measured, Store
    from supervisor.engine.place import RunPlace


class Outranked(Exception):  # noqa: N818, because it is an answer of the fence
    """Another session has a higher rank: nothing more may be written. ``names`` is the listing that showed it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__("outranked")
        self.names = names


class FencedStore:
    """Any store, for one session: every listing of the run is a look at the fence, whatever it was made for.

    Being outranked is remembered for good, because a later listing that does not show it is a stale one.
    """

    def __init__(self, inner: Store, run: RunPlace, rank: Rank) -> None:
        self.inner, self.traits = inner, inner.traits
        self.fallen: tuple[str, ...] | None = None
        self._run, self._rank = run, rank

    def look(self) -> tuple[str, ...]:
        """List the run; the names are returned whoever is the highest."""
        return self._seen(self.inner.list(self._run.name))

    def list(self, folder: str) -> Sequence[Entry]:
        """List; if that shows a higher session, raise Outranked."""
        entries = self.inner.list(folder)
        if folder == self._run.name:
            self._seen(entries)
        self._stand()
        return entries

    def read(self, path: str) -> bytes:
        """Read."""
        return self.inner.read(path)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy to the local disk."""
        return self.inner.pull(path, local, algorithm, link=link)

    def create(self, path: str, body: bytes) -> None:
        """Create, unless outranked."""
        self._stand()
        self.inner.create(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy into the store, unless outranked."""
        self._stand()
        return self.inner.push(local, path, algorithm, link=link)

    def delete(self, path: str) -> None:
        """Delete, unless outranked."""
        self._stand()
        self.inner.delete(path)

    def evidence(self, path: str) -> str:
        """Ask for the evidence."""
        return self.inner.evidence(path)

    def free_bytes(self) -> int | None:
        """Say how much room there is."""
        return self.inner.free_bytes()

    def sweep(self, folder: str) -> int:
        """Remove what dead writers left, unless outranked."""
        self._stand()
        return self.inner.sweep(folder)

    def _seen(self, entries: Sequence[Entry]) -> tuple[str, ...]:
        names = tuple(entry.name for entry in entries)
        if self.fallen is None and judge(names, self._rank):
            self.fallen = names
        return names

    def _stand(self) -> None:
        if self.fallen is not None:
            raise Outranked(self.fallen)
