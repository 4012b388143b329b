"""Wrapper that retries the transient errors of a store (tenacity), with the same contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from supervisor.core.ports import FileDigest, FolderEntry, Store, StoreError, StoreTraits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenacity import RetryCallState

T = TypeVar("T")
ATTEMPTS = 4
WAIT_S_MAX = 2.0
TRANSIENT_KINDS = frozenset({"unreadable", "gone"})


class RetryingStore:
    """Retries reads. Writes are not retried: only the caller knows the effect of a repeated write.

    Args:
        inner: the store.
        timeout_s: shortest time for which an unreadable file is retried (a drive's download quota recovers).
    """

    def __init__(self, inner: Store, timeout_s: float = 0.0) -> None:
        self.inner, self.timeout_s = inner, timeout_s
        self.traits: StoreTraits = inner.traits

    @property
    def left_out(self) -> frozenset[str]:
        """Names that listings left out because they are neither files nor folders."""
        return frozenset(getattr(self.inner, "left_out", ()))

    def list(self, folder: str) -> Sequence[FolderEntry]:
        """List, with retries."""
        return self._retry(lambda: self.inner.list(folder))

    def read(self, path: str) -> bytes:
        """Read, with retries."""
        return self._retry(lambda: self.inner.read(path))

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy to the local disk, with retries."""
        return self._retry(lambda: self.inner.pull(path, local, algorithm, link=link))

    def create(self, path: str, body: bytes) -> None:
        """Create, once."""
        self.inner.create(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy into the store, once."""
        return self.inner.push(local, path, algorithm, link=link)

    def delete(self, path: str) -> None:
        """Delete, once."""
        self.inner.delete(path)

    def sweep(self, folder: str) -> int:
        """Remove leftovers, once."""
        return self.inner.sweep(folder)

    def evidence(self, path: str) -> str:
        """Check the evidence, with retries."""
        return self._retry(lambda: self.inner.evidence(path))

    def free_bytes(self) -> int | None:
        """Return the free bytes, with retries."""
        return self._retry(self.inner.free_bytes)

    def _retry(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except StoreError as error:
            if not _is_transient(error):
                raise
        # imported only after a first failure, to keep a normal start fast
        from tenacity import Retrying, retry_if_exception, wait_exponential

        policy = Retrying(
            stop=self._should_stop,
            wait=wait_exponential(multiplier=0.1, max=WAIT_S_MAX),
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        return policy(act)

    def _should_stop(self, state: RetryCallState) -> bool:
        failed = state.outcome.exception() if state.outcome else None
        unreadable = isinstance(failed, StoreError) and failed.kind == "unreadable"
        within_timeout = unreadable and (state.seconds_since_start or 0.0) < self.timeout_s
        return state.attempt_number >= ATTEMPTS and not within_timeout


def _is_transient(error: BaseException) -> bool:
    return type(error) is StoreError and error.kind in TRANSIENT_KINDS
