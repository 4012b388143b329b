"""Any store, with the passing errors of one tried again (tenacity). Same verbs, same laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from supervisor.core.ports import Entry, Measured, Store, StoreError, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenacity import RetryCallState

T = TypeVar("T")
ATTEMPTS = 4
WAIT_S_MAX = 2.0
PASSING = frozenset({"unreadable", "gone"})


class RetryingStore:
    """Tries reads again, because an error may pass; writes are left to the caller, who knows what a repeat means.

    ``patience_s``: how long at least what cannot be read is tried again (a drive's download quota comes back).
    """

    def __init__(self, inner: Store, patience_s: float = 0.0) -> None:
        self.inner, self.patience_s = inner, patience_s
        self.traits: Traits = inner.traits

    @property
    def left_out(self) -> frozenset[str]:
        """What listings so far left out, because it is neither a file nor a folder."""
        return frozenset(getattr(self.inner, "left_out", ()))

    def list(self, folder: str) -> Sequence[Entry]:
        """List, trying again."""
        return self._again(lambda: self.inner.list(folder))

    def read(self, path: str) -> bytes:
        """Read, trying again."""
        return self._again(lambda: self.inner.read(path))

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy to the local disk, trying again."""
        return self._again(lambda: self.inner.pull(path, local, algorithm, link=link))

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
        return self._again(lambda: self.inner.evidence(path))

    def free_bytes(self) -> int | None:
        """Ask for the room, trying again."""
        return self._again(self.inner.free_bytes)

    def _again(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except StoreError as error:
            if not _passing(error):
                raise
        # imported only after a first failure, because a good start should not pay for it
        from tenacity import Retrying, retry_if_exception, wait_exponential

        policy = Retrying(
            stop=self._enough,
            wait=wait_exponential(multiplier=0.1, max=WAIT_S_MAX),
            retry=retry_if_exception(_passing),
            reraise=True,
        )
        return policy(act)

    def _enough(self, state: RetryCallState) -> bool:
        failed = state.outcome.exception() if state.outcome else None
        unreadable = isinstance(failed, StoreError) and failed.kind == "unreadable"
        patient = unreadable and (state.seconds_since_start or 0.0) < self.patience_s
        return state.attempt_number >= ATTEMPTS and not patient


def _passing(error: BaseException) -> bool:
    return type(error) is StoreError and error.kind in PASSING
