"""Staged checkpoints of dead sessions that only this machine has, found on the local disk alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import StoreError
from supervisor.engine import json_file
from supervisor.engine.paths import STATUS
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.run_catalog import runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths


def steps_of(local_root: Path, where: str, run: str) -> Iterator[int]:
    """Yield the steps that are staged here for the runs of this name in the store at ``where``."""
    for note in local_root.glob(f"*/*/{STATUS}"):
        rank, told = parse_session_id(note.parent.name), json_file.live_status(note)
        if rank is not None and told is not None and (told.get("run"), told.get("store")) == (run, where):
            for each in staged_checkpoints.staged_in(note.parent / "staging", rank):
                yield each.id.step


def words(local_root: Path, where: str, run: str) -> tuple[str, str] | None:
    """Return two lines for a store that lacks a run of which this machine has checkpoints; None if it has none."""
    step = max(steps_of(local_root, where, run), default=None)
    if step is None:
        return None
    hint = "mount the store again, or put its folder back, and start again; to begin at step 0: start --resume never"
    return f"the store {where} has no run {run!r}, and this machine holds step {step:,} of it", hint


def require_none(store: Store, run: RunPaths, local_root: Path) -> None:
    """Raise UserError if only this machine has checkpoints of the run: it must not restart at step 0 (I7)."""
    found = words(local_root, store.traits.where, run.name)
    try:
        if found is not None and runs.read(store, run) is None:
            raise UserError(*found, FAILED_PRECHECKS)
    except StoreError as error:
        raise runs.unusable_store(store, error) from error
