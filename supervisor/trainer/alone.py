"""Saving without a supervisor: the newest whole checkpoint of the script's own folder, and the end of older ones."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.trainer.folder import DamagedError, Opened, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEEP = 2
_PREFIX = "step-"
_SET_ASIDE = "damaged-"


def newest_whole(staging: Path, tell: Callable[[str], None]) -> Opened | None:
    """Return the newest checkpoint that verifies; damaged newer ones are renamed out of the way and told."""
    for name in reversed(_names(staging)):
        try:
            return open_folder(staging / name)
        except DamagedError as damage:
            tell(f"{damage.what}; set aside, trying the one before")
            (staging / name).rename(staging / f"{_SET_ASIDE}{name}")
    return None


def keep_newest(staging: Path) -> None:
    """Remove all but the newest checkpoints. The seal goes first, so that a half-removed one is not taken for whole."""
    for name in _names(staging)[:-KEEP]:
        (staging / name / "checkpoint.json").unlink(missing_ok=True)
        shutil.rmtree(staging / name, ignore_errors=True)


def _names(staging: Path) -> list[str]:
    return sorted(
        (entry.name for entry in os.scandir(staging) if entry.name.startswith(_PREFIX)),
        key=lambda name: [int(part) for part in name.removeprefix(_PREFIX).split("-") if part.isdecimal()],
    )
