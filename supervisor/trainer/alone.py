"""Saving without a supervisor: the checkpoints of the script's own folder, and the end of older ones."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.trainer.writer import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP = 2
_PREFIX = "step-"
_SET_ASIDE = "damaged-"


def newest_first(staging: Path) -> Iterator[Path]:
    """Yield the folders of all checkpoints."""
    return (staging / name for name in reversed(_names(staging)))


def set_aside(folder: Path) -> None:
    """Rename a damaged checkpoint out of the way."""
    folder.rename(folder.with_name(f"{_SET_ASIDE}{folder.name}"))


def has_only_damaged(staging: Path) -> bool:
    """Say whether there were checkpoints here, of which none was whole."""
    with os.scandir(staging) as entries:
        aside = any(entry.name.startswith(_SET_ASIDE) for entry in entries)
    return aside and not _names(staging)


def keep_newest(staging: Path) -> None:
    """Remove all but the newest checkpoints. The name goes first, so that a half-removed one is a leftover, and no checkpoint."""
    for name in _names(staging)[:-KEEP]:
        leftover = staging / f"{TEMPORARY}{name}"
        (staging / name).rename(leftover)
        shutil.rmtree(leftover, ignore_errors=True)


def _names(staging: Path) -> list[str]:
    if not staging.is_dir():
        return []
    with os.scandir(staging) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    return sorted(
        names, key=lambda name: [int(part) for part in name.removeprefix(_PREFIX).split("-") if part.isdecimal()]
    )
