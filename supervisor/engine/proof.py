"""What proves a submitted checkpoint safe. Only with all of it is anything called DURABLE (I4); age is never a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint import manifest_body
from supervisor.core.ports import Missing, Unconfirmed
from supervisor.engine.publication import manifest_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.core.checkpoint import Manifest
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.place import RunPlace

TIMES_LATER = 2


def times_needed(store: Store) -> int:
    """Return how often a store must give its evidence on a file: only of a mounted drive's client one answer is not enough."""
    return TIMES_LATER if store.traits.confirm_every_s and store.traits.mounted else 1


class Proof:
    """The evidence on one submitted checkpoint, asked for again and again until there is enough of it.

    A mounted drive must give it ``TIMES_LATER`` times, ``apart_s`` apart, because its client may call a file uploaded in the
    moment before it begins with it. Who asks may have stood still in between, and ask twice in one moment then.
    """

    def __init__(
        self, run: RunPlace, manifest: Manifest, times: int = 1, apart_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.manifest, self.sealed = manifest, False
        self._run, self._times, self._apart_s, self._clock = run, times, apart_s, clock
        self._files = {f"{run.name}/{entry.path}": entry.bytes for entry in manifest.all_files()}
        self._given: dict[str, int] = {}
        self._given_s: dict[str, float] = {}
        self._kinds: set[str] = set()

    def ask(self, store: Store, seal_it: Callable[[], None]) -> str:
        """Return what proves all of it; raise Unconfirmed until then, StoreError where that cannot be asked.

        ``seal_it`` is called as soon as the files are proved; and also if they can never be, because then the manifest is
        all that a later machine can judge them by.
        """
        try:
            self._ask(store, self._files)
        except Unconfirmed as error:
            if not error.possible:
                self.seal(seal_it)
            raise
        if not self.sealed:
            self._see(store, self._files)
        self.seal(seal_it)
        sealed = {manifest_path(self._run, self.manifest): len(manifest_body(self.manifest))}
        self._ask(store, sealed)
        self._see(store, sealed)
        return "+".join(sorted(self._kinds))

    def seal(self, seal_it: Callable[[], None]) -> None:
        """Write the manifest, once."""
        if not self.sealed:
            seal_it()
            self.sealed = True

    def _see(self, store: Store, lengths: Mapping[str, int]) -> None:
        """Raise Missing unless all is listed at its length, where a mount may have come back with an empty cache meanwhile.

        The client has nothing left to send then, whatever became of a file that was half sent.
        """
        if self._times == 1:
            return
        folders = dict.fromkeys(path.rpartition("/")[0] for path in lengths)  # in order, so that simulations repeat
        shown = {f"{folder}/{each.name}": each.bytes for folder in folders for each in store.list(folder)}
        for path, length in lengths.items():
            if shown.get(path) != length:
                raise Missing(f"{path} is not in the store as it was written")

    def _ask(self, store: Store, paths: Iterable[str]) -> None:
        missing, moving = None, False
        for path in paths:
            if self._given.get(path, 0) >= self._times:
                continue
            now_s = self._clock.now().mono_s if self._clock else 0.0
            if self._given.get(path) and now_s - self._given_s[path] < self._apart_s:
                continue
            try:
                self._kinds.add(store.evidence(path))
                self._given[path], self._given_s[path] = self._given.get(path, 0) + 1, now_s
            except Unconfirmed as error:
                self._given[path], missing = 0, error
                moving = moving or error.moving
        if missing is not None:
            missing.moving = moving
            raise missing
        if any(self._given[path] < self._times for path in paths):
            raise Unconfirmed("the proof was given once and is asked for again")


def evidence(store: Store, run: RunPlace, manifest: Manifest) -> str:
    """Return what proves every file of a published checkpoint safe, asked once. Raises Unconfirmed, StoreError."""
    return Proof(run, manifest).ask(store, lambda: None)
