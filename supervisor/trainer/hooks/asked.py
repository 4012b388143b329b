"""A save that a framework's loop was asked for between its own: one file at a time, because each takes the place of the last."""

from __future__ import annotations

import shutil
from pathlib import Path


class Asked:
    """``save`` and ``end`` are flags for the loop's thread. Of the files that it wrote for them only the newest is kept."""

    def __init__(self) -> None:
        self.save = False
        self.end = False
        self._newest = ""

    def done(self, path: str, *, asked: bool) -> None:
        """A file or folder was written: one that was asked for before is not needed any more."""
        newest, self._newest = self._newest, path if asked else ""
        if not newest or newest == path:
            return
        if Path(newest).is_dir():
            shutil.rmtree(newest, ignore_errors=True)
        else:
            Path(newest).unlink(missing_ok=True)
