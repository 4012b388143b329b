"""Is what a finished run ended with still there? Looked at by names and lengths alone, because each start asks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor.core import checkpoint as cp
from supervisor.core import shapes
from supervisor.engine import checkpoints, claims
from supervisor.engine.journal import newest_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.core.claim import Rank, Sighting
    from supervisor.core.ports import Entry, Store
    from supervisor.engine.place import RunPlace

SUCCEEDED = "succeeded"
NEVER_PROVED = "its last checkpoint is not known to be safe in the store"


def to_plain(id_: cp.CheckpointId | None) -> dict[str, Any] | None:
    """Return the checkpoint as the record of an end names it."""
    return None if id_ is None else {"epoch": id_.epoch, "step": id_.step, "writer": id_.writer, "seq": id_.seq}


def named(end: Mapping[str, Any]) -> cp.CheckpointId | None:
    """Return the checkpoint that the record of an end names as safe; None for none, or one that cannot be read."""
    try:
        return shapes.of(cp.CheckpointId, end.get("checkpoint"))
    except ValueError:
        return None


def missing(store: Store, run: RunPlace, last: Sighting | None) -> str:
    """Return what is missing of the checkpoint that the finished session ``last`` ended with; "" if nothing is.

    Of a session that ended otherwise, and of one that saved nothing, nothing is missing. Raises StoreError.
    """
    if last is None or last.end != SUCCEEDED:
        return ""
    end = claims.read_end(store, run, last.rank)
    id_ = named(end)
    step = id_.step if id_ else end.get("step")
    if not isinstance(step, int):
        return "" if "checkpoint" in end else _never_proved(store, run, last.rank)
    if id_ is not None:
        found = [each for each in checkpoints.find_in(store, run, id_.rank, step) if each.id == id_]
    else:  # written by an older version, which named the step alone
        found = checkpoints.find_in(store, run, last.rank, step)
        found = found or [each for each in checkpoints.find(store, run) if each.id.step == step]
    if not found:
        return f"step {step:,}, its last checkpoint, is not in the store"
    why = [_missing_of(store, run, each) for each in found]
    return "" if "" in why else f"step {step:,}, its last checkpoint, is not whole: {why[0]}"


def _never_proved(store: Store, run: RunPlace, rank: Rank) -> str:
    """Judge by the journal of an older version: what was written, or gone on from, and never became safe, may be lost."""
    seen = newest_status(store, run, rank)
    if seen is None or seen.durable is not None:
        return ""
    return NEVER_PROVED if seen.staged or seen.submitted or seen.session_from_step else ""


def _missing_of(store: Store, run: RunPlace, found: cp.Found) -> str:
    """Return what a checkpoint lacks, by its manifest and the listings of its folders."""
    found = checkpoints.read_manifest(store, found)
    if found.manifest is None:
        return "" if found.verdict in {cp.Verdict.NEWER, cp.Verdict.PACKED} else found.why
    listed: dict[str, list[Entry]] = {}
    for entry in found.manifest.all_files():
        folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in listed:
            listed[folder] = list(store.list(folder))
        if not _lies_there(listed[folder], name, entry.bytes):
            return f"{entry.name} is missing or cut short"
    return ""


def _lies_there(listed: Iterable[Entry], name: str, length: int) -> bool:
    """Say whether a file is listed at its length, under its name or under that which a drive gives a twin."""
    stem, dot, suffix = name.rpartition(".")
    twin = re.compile(rf"{re.escape(stem)}( \(\d+\))?{re.escape(dot + suffix)}")
    return any(twin.fullmatch(each.name) and each.bytes in {length, None} for each in listed)
