"""Removing a whole run from a store, in an order in which no reader ever takes a part of it for more than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.engine import checkpoints, claims, runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Entry, Store
    from supervisor.engine.place import RunPlace


def size(store: Store, run: RunPlace) -> int:
    """Return the bytes that all files of a run have in the store."""
    return _size(store, run.name)


def remove(store: Store, run: RunPlace, progress: Callable[[str], None] = lambda _: None) -> None:
    """Remove the run. Killed at any instruction, what is left is still listed, and the same command goes on.

    All manifests go first, so that no checkpoint is ever seen without its files; of each session its claim goes last, and
    of the run its record. A large file on a drive is emptied first, because the trash counts too (``Store.delete``).
    """
    for found in checkpoints.find(store, run):
        progress(found.path)
        store.delete(found.path)
    entries = sorted(store.list(run.name), key=lambda entry: (runs.is_sign(entry.name), runs.is_record(entry.name)))
    for entry in entries:
        _remove(store, f"{run.name}/{entry.name}", entry, progress)
    store.sweep(run.name)
    store.delete(run.name)


def _remove(store: Store, path: str, entry: Entry, progress: Callable[[str], None]) -> None:
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
