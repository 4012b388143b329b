"""Checks whether the result of a finished run is still in the store, by names and lengths alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.wire import shapes
from supervisor.engine.journal import newest_status
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.run_catalog import claims

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.core.checkpoint.session_id import SessionId, SessionObservation
    from supervisor.core.ports import FolderEntry, Store
    from supervisor.engine.paths import RunPaths

SUCCEEDED = "succeeded"
NEVER_PROVED = "its last checkpoint is not known to be safe in the store"


def to_plain(id_: cp.CheckpointId | None) -> dict[str, Any] | None:
    """Return the checkpoint as an end record stores it."""
    return None if id_ is None else {"epoch": id_.generation, "step": id_.step, "writer": id_.writer, "seq": id_.seq}


def named(end: Mapping[str, Any]) -> cp.CheckpointId | None:
    """Return the durable checkpoint that an end record names, or None."""
    try:
        return shapes.convert(cp.CheckpointId, end.get("checkpoint"))
    except ValueError:
        return None


def missing(store: Store, run: RunPaths, last: SessionObservation | None) -> str:
    """Return what is missing of the checkpoint that the finished session ``last`` ended with, else "".

    A session with another end, or without a checkpoint, misses nothing. Raises StoreError.
    """
    if last is None or last.end != SUCCEEDED:
        return ""
    end = claims.read_end(store, run, last.session_id)
    id_ = named(end)
    step = id_.step if id_ else end.get("step")
    if not isinstance(step, int):
        return "" if "checkpoint" in end else _never_proved(store, run, last.session_id)
    if id_ is not None:
        found = [each for each in checkpoint_fetch.find_in(store, run, id_.session_id, step) if each.id == id_]
    else:  # written by an older version, which named the step alone
        found = checkpoint_fetch.find_in(store, run, last.session_id, step)
        found = found or [each for each in checkpoint_fetch.find(store, run) if each.id.step == step]
    if not found:
        return f"step {step:,}, its last checkpoint, is not in the store"
    why = [_missing_of(store, run, each) for each in found]
    return "" if "" in why else f"step {step:,}, its last checkpoint, is not whole: {why[0]}"


def _never_proved(store: Store, run: RunPaths, rank: SessionId) -> str:
    """Check by the journal of an older version: a checkpoint that was uploaded and never durable may be lost."""
    seen = newest_status(store, run, rank)
    if seen is None or seen.durable is not None:
        return ""
    return NEVER_PROVED if seen.staged or seen.submitted or seen.session_from_step else ""


def _missing_of(store: Store, run: RunPaths, found: cp.Candidate) -> str:
    """Return what a checkpoint lacks, by its manifest and the listings of its folders."""
    found = checkpoint_fetch.read_manifest(store, found)
    if found.manifest is None:
        return "" if found.verdict in {cp.Validity.NEWER, cp.Validity.PACKED} else found.why
    listed: dict[str, list[FolderEntry]] = {}
    for entry in found.manifest.all_files():
        folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in listed:
            listed[folder] = list(store.list(folder))
        if not _lies_there(listed[folder], name, entry.bytes):
            return f"{entry.name} is missing or cut short"
    return ""


def _lies_there(listed: Iterable[FolderEntry], name: str, length: int) -> bool:
    """Return whether a file is listed at its length, under its name or the name of a drive's duplicate."""
    stem, dot, suffix = name.rpartition(".")
    twin = re.compile(rf"{re.escape(stem)}( \(\d+\))?{re.escape(dot + suffix)}")
    return any(twin.fullmatch(each.name) and each.bytes in {length, None} for each in listed)
