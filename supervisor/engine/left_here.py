"""Work that this machine holds and a store does not: staged checkpoints of dead sessions, found on the local disk alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.claim import rank_of
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import StoreError
from supervisor.engine import notes, runs, staged
from supervisor.engine.place import STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace


def steps_of(local_root: Path, where: str, run: str) -> Iterator[int]:
    """Yield the steps that are staged here of the runs of this name in the store at ``where``."""
    for note in local_root.glob(f"*/*/{STATUS}"):
        rank, told = rank_of(note.parent.name), notes.live_status(note)
        if rank is not None and told is not None and (told.get("run"), told.get("store")) == (run, where):
            for each in staged.staged_in(note.parent / "staging", rank):
                yield each.id.step


def words(local_root: Path, where: str, run: str) -> tuple[str, str] | None:
    """Return the two lines for a store that does not have a run of which this machine holds work; None if it holds none."""
    step = max(steps_of(local_root, where, run), default=None)
    if step is None:
        return None
    hint = "mount the store again, or put its folder back, and start again; to begin at step 0: start --resume never"
    return f"the store {where} has no run {run!r}, and this machine holds step {step:,} of it", hint


def require_none(store: Store, run: RunPlace, local_root: Path) -> None:
    """Raise UserError where the store has no such run any more and this machine holds work of it: step 0 never follows that."""
    found = words(local_root, store.traits.where, run.name)
    try:
        if found is not None and runs.read(store, run) is None:
            raise UserError(*found, FAILED_PRECHECKS)
    except StoreError as error:
        raise runs.cannot_use(store, error) from error
