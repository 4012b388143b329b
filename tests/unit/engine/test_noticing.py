"""What the system tells of a watched folder, and what is done where it does not."""

from __future__ import annotations

from threading import Event as Flag
from typing import TYPE_CHECKING

import pytest
from watchdog.observers.inotify import InotifyObserver

from supervisor.engine.files import noticing
from supervisor.engine.files.watcher import Scene, Watcher
from tests.unit.engine.files import Folder

if TYPE_CHECKING:
    from pathlib import Path


class Told:
    def __init__(self) -> None:
        self.closed: list[str] = []
        self.heard = Flag()

    def __call__(self, path: str, *, closed: bool) -> None:
        if closed:
            self.closed.append(path)
            self.heard.set()


def test_a_file_that_is_closed_in_a_new_folder_is_told_of(tmp_path: Path) -> None:
    told = Told()
    listening = noticing.begin(tmp_path, told, pytest.fail)
    assert listening.listening
    (tmp_path / "model.pt").write_bytes(b"x")
    assert told.heard.wait(400)
    assert told.closed == [str(tmp_path / "model.pt")]
    listening.end()
    assert not listening.listening


def test_where_the_system_has_no_watch_to_give_it_is_said_once_and_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: InotifyObserver) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(InotifyObserver, "start", refuse)
    folder = Folder(tmp_path)
    watcher = Watcher(Scene(folder.root, "out", 1), folder.series, lambda: None)
    watcher._listen()
    watcher._listen()
    assert [note for note in folder.notes if "inotify watch limit reached" in note] == folder.notes
    assert len(folder.notes) == 1
    (folder.root / "model.pt").write_bytes(b"x")
    for _ in range(5):
        folder.clock.now_s += 2.0
        watcher.turn()
    assert len(folder.staged) == 1


def test_a_folder_that_is_made_anew_is_listened_to_anew(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    watcher = Watcher(Scene(folder.root, "out", 1), folder.series, lambda: None)
    watcher._listen()
    first = watcher._noticing
    assert first is not None
    folder.root.rename(tmp_path / "away")
    watcher._listen()
    assert watcher._noticing is first
    folder.root.mkdir()
    watcher._listen()
    assert watcher._noticing is not first
    watcher.stop()
    assert not first.listening
