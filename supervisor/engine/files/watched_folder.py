"""The folder of ``--watch``: what the command line says of it, and which folders it cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.session import SaveEvery

HINT = "name the folder that the script writes its checkpoints into, like --watch out"


@dataclass(frozen=True, slots=True)
class Watch:
    """``called`` is the watched folder as it was typed, "" for none; ``every_s``: between snapshots, None: as fits.

    ``named_before``: what an earlier command on this machine named. ``trusting``: a person believes what the store names.
    """

    called: str = ""
    folder: Path = Path()
    resume_args: str = ""
    every_s: float | None = None
    named_before: str = ""
    trusting: bool = False


def watch(settings: Mapping[str, Any], every: SaveEvery) -> Watch:
    """Return what is to be watched; a relative folder is one of the working folder."""
    called = settings["watch"]
    folder = Path(called).absolute() if called else Path()
    return Watch(called, folder, settings["resume_args"], every.value if every.unit == "s" else None)


def refuse(called: str, others: Mapping[str, Path]) -> None:
    """Raise UsageError for a folder that is, holds or lies in what must not be put back with it.

    ``others``: such places, each under what people call it. The store and the local disk must not even hold the folder.
    """
    if not called:
        return
    folder = Path(os.path.realpath(called))
    if folder == Path(folder.anchor):
        raise UsageError("--watch / is the whole machine", HINT)
    if os.path.lexists(called) and not folder.is_dir():
        raise UsageError(f"--watch {called} is no folder", HINT)
    for name, place in others.items():
        other = Path(os.path.realpath(place))
        if other == folder or other.is_relative_to(folder):
            raise UsageError(f"--watch {called} {'is' if other == folder else 'holds'} {name}, {other}", HINT)
        if name == STORE and folder.is_relative_to(other):
            raise UsageError(f"--watch {called} lies in {name}, {other}", HINT)


STORE = "the store"
