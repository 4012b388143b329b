"""Confirmation of an uploaded checkpoint: polls the store until every byte is confirmed (I4)."""

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
    """Return how many confirmations each file needs. For the client of a mounted drive one is not enough."""
    return CONFIRMATIONS_ON_A_DRIVE if store.traits.confirm_every_s and store.traits.mounted else 1


class DurabilityCheck:
    """Polls the confirmations of one uploaded checkpoint.

    A mounted drive must confirm each file ``CONFIRMATIONS_ON_A_DRIVE`` times, ``apart_s`` apart. Its client may report
    a file as uploaded just before it starts the upload. The clock is needed because a suspended process may poll twice
    in one moment.
    """

    def __init__(
        self, run: RunPaths, manifest: Manifest, times: int = 1, apart_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.manifest, self._listed = manifest, False
        self._run, self._times, self._apart_s, self._clock = run, times, apart_s, clock
        self._files = {f"{run.name}/{entry.path}": entry.bytes for entry in manifest.all_files()}
        self._confirmations: dict[str, int] = {}
        self._confirmed_s: dict[str, float] = {}
        self._kinds: set[str] = set()

    def poll(self, store: Store) -> str:
        """Return the kinds of evidence for a checkpoint whose manifest is written.

        Raises NotConfirmed while a confirmation is pending, StoreError if the store failed.
        """
        self.poll_files(store)
        if not self._listed:
            self.check_files_listed(store)
            self._listed = True
        return self.poll_manifest(store)

    def poll_files(self, store: Store) -> None:
        """Poll every file that lacks a confirmation. Raises NotConfirmed while one is pending."""
        self._poll(store, self._files)

    def check_files_listed(self, store: Store) -> None:
        """Raise NotFound unless every file is listed at its length."""
        self._check_listed(store, self._files)

    def poll_manifest(self, store: Store) -> str:
        """Poll the manifest, after its files are confirmed. Returns the kinds of evidence of all of them."""
        manifest = {self._run.manifest(self.manifest): len(manifest_body(self.manifest))}
        self._poll(store, manifest)
        self._check_listed(store, manifest)
        return "+".join(sorted(self._kinds))

    def _check_listed(self, store: Store, lengths: Mapping[str, int]) -> None:
        """Raise NotFound unless each path is listed at its length. Only a mounted drive is checked.

        Its mount may have come back with an empty cache. The client then has nothing left to upload, although a file
        may be incomplete.
        """
        if self._times == 1:
            return
        folders = dict.fromkeys(path.rpartition("/")[0] for path in lengths)  # in order, so that simulations repeat
        listed = {f"{folder}/{each.name}": each.bytes for folder in folders for each in store.list(folder)}
        for path, length in lengths.items():
            if listed.get(path) != length:
                raise NotFound(f"{path} is not in the store as it was written")

    def _poll(self, store: Store, paths: Iterable[str]) -> None:
        """Poll each path that lacks a confirmation. A path that is not confirmed starts to count again from zero."""
        pending, moving = None, False
        for path in paths:
            if self._confirmations.get(path, 0) >= self._times:
                continue
            now_s = self._clock.now().mono_s if self._clock else 0.0
            if self._confirmations.get(path) and now_s - self._confirmed_s[path] < self._apart_s:
                continue
            try:
                self._kinds.add(store.evidence(path))
                self._confirmations[path], self._confirmed_s[path] = self._confirmations.get(path, 0) + 1, now_s
            except NotConfirmed as error:
                self._confirmations[path], pending = 0, error
                moving = moving or error.moving
        if pending is not None:
            pending.moving = moving
            raise pending
        if any(self._confirmations[path] < self._times for path in paths):
            raise NotConfirmed("the proof was given once and is asked for again")


def confirm_once(store: Store, run: RunPaths, manifest: Manifest) -> str:
    """Return the kinds of evidence for an uploaded checkpoint, polled once. Raises NotConfirmed and StoreError."""
    return DurabilityCheck(run, manifest).poll(store)
