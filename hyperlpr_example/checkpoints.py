"""Checkpoints of the recogniser's trainers: where the newest is, and which framework it wants; needs none itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.errors import UserError
from supervisor.trainer.folder import open_folder

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = "published"  # stands for a checkpoint with HyperLPR's own weights


def newest_in(path: Path) -> Path:
    """The folder itself when it is a checkpoint, else the newest under it: of the latest session, the highest step."""
    if (path / "checkpoint.json").is_file():
        return path
    found = sorted(path.glob("**/step-*/checkpoint.json"), key=lambda file: file.parts[-3:])
    if not found:
        raise UserError(
            f"there is no checkpoint in {path}",
            hint=f"name a checkpoint's folder ({program.command('checkpoints', 'export', 'latest', 'DIR')} makes one), or: {PUBLISHED}",
        )
    return found[-1].parent


def is_keras(checkpoint: Path) -> bool:
    """Whether trainers/hyperlpr_keras.py made it; UserError when it is damaged."""
    return open_folder(checkpoint).manifest.made_by.get("framework", "").startswith("keras")
