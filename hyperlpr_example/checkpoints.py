"""Checkpoints of the recogniser's trainers: the newest one, and the framework that it needs.

This file needs no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.errors import UserError
from supervisor.trainer.save.checkpoint_folder import open_folder

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = "published"  # stands for a checkpoint with HyperLPR's own weights


def newest_in(path: Path) -> Path:
    """Return the folder itself if it is a checkpoint, else the newest one under it.

    The latest session's highest step.
    """
    if (path / "checkpoint.json").is_file():
        return path
    found = sorted(path.glob("**/step-*/checkpoint.json"), key=lambda file: file.parts[-3:])
    if not found:
        raise UserError(
            f"there is no checkpoint in {path}",
            hint=f"name a checkpoint's folder ({shell_commands.command('checkpoints', 'export', 'latest', 'DIR')} makes one), or: {PUBLISHED}",
        )
    return found[-1].parent


def is_keras(checkpoint: Path) -> bool:
    """Return whether trainers/hyperlpr_keras.py made it; UserError if it is damaged."""
    return open_folder(checkpoint).manifest.made_by.get("framework", "").startswith("keras")
