"""What proves a submitted checkpoint safe. Only with all of it is anything called DURABLE (I4); age is never a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint.manifest import manifest_body
from supervisor.core.ports import NotConfirmed, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.core.checkpoint.manifest import Manifest
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.paths import RunPaths

CONFIRMATIONS_ON_A_DRIVE = 2


def confirmations_needed(store: Store) -> int:
    """Return how often a store must give its evidence on a file: only of a mounted drive's client one answer is not enough."""
    return CONFIRMATIONS_ON_A_DRIVE if store.traits.confirm_every_s and store.traits.mounted else 1


class DurabilityCheck:
    """The evidence on one submitted checkpoint, asked for again and again until there is enough of it.

    A mounted drive must give it ``CONFIRMATIONS_ON_A_DRIVE`` times, ``apart_s`` apart, because its client may call a file uploaded in the
    moment before it begins with it. Who asks may have stood still in between, and ask twice in one moment then.
    """

    def __init__(
        self, run: RunPaths, manifest: Manifest, times: int = 1, apart_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.manifest, self._listed = manifest, False
        self._run, self._times, self._apart_s, self._clock = run, times, apart_s, clock
        self._files = {f"{run.name}/{entry.path}": entry.bytes for entry in manifest.all_files()}
        self._given: dict[str, int] = {}
        self._given_s: dict[str, float] = {}
        self._kinds: set[str] = set()

    def poll(self, store: Store) -> str:
        """Return what proves a checkpoint whose manifest is written; raise NotConfirmed until then, StoreError on a failure."""
        self.poll_files(store)
        if not self._listed:
            self.check_files_listed(store)
            self._listed = True
        return self.poll_manifest(store)

    def poll_files(self, store: Store) -> None:
        """Ask for the evidence on every file that still lacks some; raise NotConfirmed until there is enough."""
        self._poll(store, self._files)

    def check_files_listed(self, store: Store) -> None:
        """Raise NotFound unless every file is listed at its length, see ``_check_listed``."""
        self._check_listed(store, self._files)

    def poll_manifest(self, store: Store) -> str:
        """Ask for the evidence on the manifest, after that on the files; return the kinds of all evidence."""
        sealed = {self._run.manifest(self.manifest): len(manifest_body(self.manifest))}
        self._poll(store, sealed)
        self._check_listed(store, sealed)
        return "+".join(sorted(self._kinds))

    def _check_listed(self, store: Store, lengths: Mapping[str, int]) -> None:
        """Raise Missing unless all is listed at its length, where a mount may have come back with an empty cache meanwhile.

        The client has nothing left to send then, whatever became of a file that was half sent.
        """
        if self._times == 1:
            return
        folders = dict.fromkeys(path.rpartition("/")[0] for path in lengths)  # in order, so that simulations repeat
        shown = {f"{folder}/{each.name}": each.bytes for folder in folders for each in store.list(folder)}
        for path, length in lengths.items():
            if shown.get(path) != length:
                raise NotFound(f"{path} is not in the store as it was written")

    def _poll(self, store: Store, paths: Iterable[str]) -> None:
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
            except NotConfirmed as error:
                self._given[path], missing = 0, error
                moving = moving or error.moving
        if missing is not None:
            missing.moving = moving
            raise missing
        if any(self._given[path] < self._times for path in paths):
            raise NotConfirmed("the proof was given once and is asked for again")


def confirm_once(store: Store, run: RunPaths, manifest: Manifest) -> str:
    """Return what proves every file of a published checkpoint safe, asked once. Raises Unconfirmed, StoreError."""
    return DurabilityCheck(run, manifest).poll(store)
