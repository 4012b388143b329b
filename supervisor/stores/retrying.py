"""Any store, with the passing errors of one tried again (tenacity). Same verbs, same laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from supervisor.core.ports import Entry, Measured, Store, StoreError, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
ATTEMPTS = 4
WAIT_S_MAX = 2.0
PASSING = frozenset({"unreadable", "gone"})


class RetryingStore:
    """Tries reads again, because an error may pass; writes are left to the caller, who knows what a repeat means."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.traits: Traits = inner.traits

    def list(self, folder: str) -> Sequence[Entry]:
        """List, trying again."""
        return _again(lambda: self.inner.list(folder))

    def read(self, path: str) -> bytes:
        """Read, trying again."""
        return _again(lambda: self.inner.read(path))

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy to the local disk, trying again."""
        return _again(lambda: self.inner.pull(path, local, algorithm, link=link))

    def create(self, path: str, body: bytes) -> None:
        """Create, once."""
        self.inner.create(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy into the store, once."""
        return self.inner.push(local, path, algorithm, link=link)

    def delete(self, path: str) -> None:
        """Delete, once."""
        self.inner.delete(path)

    def sweep(self, folder: str) -> int:
        """Remove leftovers, once."""
        return self.inner.sweep(folder)

    def evidence(self, path: str) -> str:
        """Ask for the evidence, trying again."""
        return _again(lambda: self.inner.evidence(path))

    def free_bytes(self) -> int | None:
        """Ask for the room, trying again."""
        return _again(self.inner.free_bytes)


def _again(act: Callable[[], T]) -> T:
    try:
        return act()
    except StoreError as error:
        if not _passing(error):
            raise
    # imported only after a first failure, because a good start should not pay for it
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    policy = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.1, max=WAIT_S_MAX),
        retry=retry_if_exception(_passing),
        reraise=True,
    )
    return policy(act)


def _passing(error: BaseException) -> bool:
    return type(error) is StoreError and error.kind in PASSING
