"""A watched folder with a clock of its own, for the tests of snapshots: real files, no waiting."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.instant import Instant
from supervisor.engine.files import putting_back
from supervisor.engine.files.series import Series
from supervisor.engine.files.watcher import Scene, Watcher


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def now(self) -> Instant:
        return Instant(self.now_s, self.now_s)


class Folder:
    """``root`` is watched; ``after`` lets time pass and looks, ``said`` is what the session heard."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.staging = tmp_path / "out", tmp_path / "staging"
        self.aside = tmp_path / "aside"
        self.root.mkdir(exist_ok=True)
        self.staging.mkdir()
        self.clock = Clock()
        self.said: list[messages.Message] = []
        self.series = Series(self.staging, self.clock, lambda _: None, self._hear)
        self.watcher = Watcher(Scene(self.root, "out", os.getsid(0)), self.series, lambda: None)
        self.watcher.turn()

    def after(self, seconds: float) -> float:
        self.clock.now_s += seconds
        return self.watcher.turn()

    def settle(self) -> None:
        """Look until all is quiet."""
        for _ in range(8):
            self.after(1.0)

    @property
    def staged(self) -> list[messages.Staged]:
        return [each for each in self.said if isinstance(each, messages.Staged)]

    @property
    def notes(self) -> list[str]:
        return [each.text for each in self.said if isinstance(each, messages.Note)]

    def newest(self) -> Path:
        return self.staging / self.staged[-1].folder

    def put_back(self, into: Path) -> putting_back.PutBack:
        found = putting_back.carried_in(self.newest())
        assert found is not None
        return putting_back.put_back(self.newest(), found[0], into, self.aside)

    def _hear(self, event: ev.Event) -> None:
        assert isinstance(event, ev.TrainerSaid), event
        self.said.append(event.message)


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Return all that lies in a folder: content of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            inside = os.path.relpath(path, root)
            if path.is_symlink():
                found[inside] = os.fspath(path.readlink())
            else:
                found[inside] = None if path.is_dir() else path.read_bytes()
    return found
