"""Deletes a whole run from a store. The order keeps every reader from taking a part for more than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.run_catalog import claims, runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import FolderEntry, Store
    from supervisor.engine.paths import RunPaths


def size(store: Store, run: RunPaths) -> int:
    """Return the bytes of all files of a run in the store."""
    return _size(store, run.name)


def remove(store: Store, run: RunPaths, progress: Callable[[str], None] = lambda _: None) -> None:
    """Delete the run. After a kill at any instruction the rest is still listed, and the same command continues.

    All manifests go first, so that no checkpoint is seen without its files. Of each session the claim goes last, and of
    the run its record. A large file on a drive is truncated first, because trash uses quota too (``Store.delete``).
    """
    for found in checkpoint_fetch.find(store, run):
        progress(found.path)
        store.delete(found.path)
    entries = sorted(store.list(run.name), key=lambda entry: (runs.is_sign(entry.name), runs.is_record(entry.name)))
    for entry in entries:
        _remove(store, f"{run.name}/{entry.name}", entry, progress)
    store.sweep(run.name)
    store.delete(run.name)


def _remove(store: Store, path: str, entry: FolderEntry, progress: Callable[[str], None]) -> None:
    progress(path)
    if entry.folder:
        inside = sorted(store.list(path), key=lambda each: each.name == claims.CLAIM)
        for each in inside:
            _remove(store, f"{path}/{each.name}", each, progress)
        store.sweep(path)
    store.delete(path)


def _size(store: Store, folder: str) -> int:
    entries = store.list(folder)
    return sum(_size(store, f"{folder}/{each.name}") if each.folder else each.bytes or 0 for each in entries)
