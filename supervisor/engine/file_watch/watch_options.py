"""The folder of ``--watch-dir``: its option, and the folders that are not allowed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.session.state import SaveSchedule

HINT = "name the folder that the script writes its checkpoints into, like --watch-dir out"


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """``called`` is the watched folder as typed, "" for none. ``every_s``: interval of snapshots, None for automatic.

    ``named_before``: the folder of an earlier command on this machine. ``trusting``: the user trusts the folder named
    in the store.
    """

    called: str = ""
    folder: Path = Path()
    resume_args: str = ""
    every_s: float | None = None
    named_before: str = ""
    trusting: bool = False


def watch(settings: Mapping[str, Any], every: SaveSchedule) -> WatchedFolder:
    """Return the folder to watch; a relative path starts from the working folder."""
    called = settings["watch"]
    folder = Path(called).absolute() if called else Path()
    return WatchedFolder(called, folder, settings["resume_args"], every.value if every.unit == "s" else None)


def reject(called: str, others: Mapping[str, Path]) -> None:
    """Raise UsageError for a folder that is, holds or lies in a place that must not be restored with it.

    ``others``: these places by their names for the user. The store and the local disk must not even hold the folder.
    """
    if not called:
        return
    folder = Path(os.path.realpath(called))
    if folder == Path(folder.anchor):
        raise UsageError("--watch-dir / is the whole machine", HINT)
    if os.path.lexists(called) and not folder.is_dir():
        raise UsageError(f"--watch-dir {called} is no folder", HINT)
    for name, place in others.items():
        other = Path(os.path.realpath(place))
        if other == folder or other.is_relative_to(folder):
            raise UsageError(f"--watch-dir {called} {'is' if other == folder else 'holds'} {name}, {other}", HINT)
        if name == STORE and folder.is_relative_to(other):
            raise UsageError(f"--watch-dir {called} lies in {name}, {other}", HINT)


STORE = "the store"
