"""Brings a run that an earlier session of a platform left in a read-only folder into this session's own store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.digest import SHA256
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import Store, StoreError, Taken
from supervisor.engine import checkpoints, runs
from supervisor.engine.claims import ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.engine.place import RunPlace

HALF_MADE = ".tmp-"


def bring(
    store: Store,
    run: RunPlace,
    folders: Sequence[str],
    opened: Callable[[str], Store],
    say: Callable[[str, str], None],
) -> bool:
    """Copy the run from the folder that has come farthest, unless the store has it; say so; return whether it was copied.

    Killed at any instruction it goes on the next time: what is there stays as it is, and the run's own record, by which
    a store is known to have it, comes last. Raises UserError.
    """
    try:
        if not folders or runs.read_whole(store, run) is not None:
            return False
        best = max(folders, key=lambda folder: _reached(opened(folder), run))
        files = sorted(_files(Path(best, run.name)), key=lambda path: (path.name == "run.json", path))
        size = sum(path.stat().st_size for path in files)
        say(f"{best} holds this run, {_words(opened(best), run)}: copying it first ({size / 1e6:,.0f} MB)", "")
        for path in files:
            with suppress(Taken):
                store.push(str(path), path.relative_to(best).as_posix(), SHA256)
    except (OSError, StoreError) as error:
        what = f"the earlier work in {folders[0]} could not be copied: {error}"
        hint = "see that the input can be read and the store has room, or start elsewhere with --store DIR"
        raise UserError(what, hint, FAILED_PRECHECKS) from error
    return True


def _reached(store: Store, run: RunPlace) -> tuple[int, int, int]:
    """Return how far a copy has come: its newest checkpoint, else its newest session."""
    newest = max((found.id for found in checkpoints.find(store, run)), default=None)
    last = max((rank.epoch for rank in ranks(store, run)), default=0)
    return (newest.epoch, newest.step, last) if newest else (0, 0, last)


def _words(store: Store, run: RunPlace) -> str:
    epoch, step, last = _reached(store, run)
    return f"up to step {step:,} of session {epoch}" if epoch else f"{last} sessions and no checkpoint"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(HALF_MADE))
