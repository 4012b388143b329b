"""Saves that the supervisor requests between the loop's own: one file at a time, because each replaces the last."""

from __future__ import annotations

import shutil
from pathlib import Path


class OnDemandSave:
    """``save`` and ``end`` are flags for the loop's thread. Only the newest file that was written on request stays."""

    def __init__(self) -> None:
        self.save = False
        self.end = False
        self._newest = ""

    def on_saved(self, path: str, *, requested: bool) -> None:
        """Remove the previous requested file: a new file or folder was written."""
        newest, self._newest = self._newest, path if requested else ""
        if not newest or newest == path:
            return
        if Path(newest).is_dir():
            shutil.rmtree(newest, ignore_errors=True)
        else:
            Path(newest).unlink(missing_ok=True)
