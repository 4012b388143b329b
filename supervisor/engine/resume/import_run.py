"""Imports a run into this session's store from a read-only folder that an earlier session of the platform left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.digest import SHA256
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import AlreadyExists, Store, StoreError
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.run_catalog import runs
from supervisor.engine.run_catalog.claims import ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.engine.paths import RunPaths

HALF_MADE = ".tmp-"


def import_run(
    store: Store,
    run: RunPaths,
    folders: Sequence[str],
    opened: Callable[[str], Store],
    say: Callable[[str, str], None],
) -> bool:
    """Copy the run from the most advanced folder, unless the store has it; return whether it was copied.

    A killed import continues the next time: files that are there stay. The run's record comes last, because a store
    with it counts as having the run. Raises UserError.
    """
    try:
        if not folders or runs.read_whole(store, run) is not None:
            return False
        best = max(folders, key=lambda folder: _progress(opened(folder), run))
        files = sorted(_files(Path(best, run.name)), key=lambda path: (path.name == "run.json", path))
        size = sum(path.stat().st_size for path in files)
        say(f"{best} holds this run, {_describe(opened(best), run)}: copying it first ({size / 1e6:,.0f} MB)", "")
        for path in files:
            with suppress(AlreadyExists):
                store.push(str(path), path.relative_to(best).as_posix(), SHA256)
    except (OSError, StoreError) as error:
        what = f"the earlier work in {folders[0]} could not be copied: {error}"
        hint = "see that the input can be read and the store has room, or start elsewhere with --store DIR"
        raise UserError(what, hint, FAILED_PRECHECKS) from error
    return True


def _progress(store: Store, run: RunPaths) -> tuple[int, int, int]:
    """Return the progress of a copy: its newest checkpoint, else its newest session."""
    newest = max((found.id for found in checkpoint_fetch.find(store, run)), default=None)
    last = max((rank.generation for rank in ranks(store, run)), default=0)
    return (newest.generation, newest.step, last) if newest else (0, 0, last)


def _describe(store: Store, run: RunPaths) -> str:
    epoch, step, last = _progress(store, run)
    return f"up to step {step:,} of session {epoch}" if epoch else f"{last} sessions and no checkpoint"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(HALF_MADE))
