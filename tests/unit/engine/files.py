"""A watched folder with a clock of its own, for the tests of snapshots: real files, no waiting."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.core.clock import Instant
from supervisor.core.session import events as ev
from supervisor.core.wire import messages
from supervisor.engine.file_watch.watcher import WatchedAttempt, Watcher
from supervisor.engine.unmodified import restore as file_restore
from supervisor.engine.unmodified.snapshot_series import SnapshotSeries


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
        self.series = SnapshotSeries(self.staging, self.clock, lambda _: None, self._hear)
        self.watcher = Watcher(WatchedAttempt(self.root, "out", os.getsid(0)), self.series, lambda: None)
        self.watcher.poll_once()

    def after(self, seconds: float) -> float:
        self.clock.now_s += seconds
        return self.watcher.poll_once()

    def settle(self) -> None:
        """Look until all is quiet."""
        for _ in range(8):
            self.after(1.0)

    @property
    def staged(self) -> list[messages.CheckpointStaged]:
        return [each for each in self.said if isinstance(each, messages.CheckpointStaged)]

    @property
    def notes(self) -> list[str]:
        return [each.text for each in self.said if isinstance(each, messages.TrainerNote)]

    def newest(self) -> Path:
        return self.staging / self.staged[-1].folder

    def put_back(self, into: Path) -> file_restore.RestoredFolder:
        found = file_restore.file_manifest_in(self.newest())
        assert found is not None
        return file_restore.restore_files(self.newest(), found[0], into, self.aside)

    def _hear(self, event: ev.Event) -> None:
        assert isinstance(event, ev.TrainerMessage), event
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
