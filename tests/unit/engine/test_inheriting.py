"""A run that an earlier session left in a read-only folder goes on in a fresh store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank
from supervisor.core.errors import UserError
from supervisor.engine import inheriting
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

RUN = RunPlace("plates")


def left(folder: Path, *ids: CheckpointId) -> str:
    """Leave a run with these checkpoints in a folder that cannot be written."""
    store = FolderStore(str(folder))
    store.create(
        "plates/run.json", b'{"schema": 1, "id": "abc0abc0abc0abc0", "script": "t.py", "arguments": [], "options": {}}'
    )
    for id_ in ids:
        rank = Rank(id_.epoch, id_.writer)
        store.create(f"{RUN.step(rank, id_.step)}/manifest-{id_.seq:06d}-{0:016x}.json", b"{}")
        store.create(f"{RUN.step(rank, id_.step)}/state-{id_.seq}.bin", os.urandom(50))
    (folder / "plates/.tmp-half").write_bytes(b"half")
    return str(folder)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(str(tmp_path / "working" / "supervisor"))


def bring(store: FolderStore, *folders: str) -> tuple[bool, list[str]]:
    said: list[str] = []
    return inheriting.bring(store, RUN, folders, FolderStore, lambda words, _hint: said.append(words)), said


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_one_that_has_come_farthest_is_copied_whole(tmp_path: Path, store: FolderStore):
    first = left(tmp_path / "first", CheckpointId(1, 900, "aa", 1))
    second = left(tmp_path / "second", CheckpointId(1, 900, "aa", 1), CheckpointId(2, 40, "bb", 1))
    third = left(tmp_path / "third")
    copied, said = bring(store, first, second, third)
    assert copied
    assert "up to step 40 of session 2" in said[0]
    there = files(tmp_path / "second")
    del there["plates/.tmp-half"]
    assert files(tmp_path / "working" / "supervisor") == there


def test_a_store_that_has_the_run_is_left_alone(tmp_path: Path, store: FolderStore):
    store.create(
        "plates/run.json", b'{"schema": 1, "id": "0123456789abcdef", "script": "t.py", "arguments": [], "options": {}}'
    )
    assert bring(store, left(tmp_path / "first", CheckpointId(1, 900, "aa", 1))) == (False, [])
    assert len(files(tmp_path / "working")) == 1


def test_nothing_to_bring_is_said_by_silence(store: FolderStore):
    assert bring(store) == (False, [])


def test_broken_off_at_any_file_it_goes_on_the_next_time(tmp_path: Path, store: FolderStore, monkeypatch):
    folder = left(tmp_path / "first", CheckpointId(1, 900, "aa", 1), CheckpointId(1, 950, "aa", 1))
    whole, pushed = store.push, []

    def push(*words, **more):
        if len(pushed) == 2:
            raise KeyboardInterrupt
        pushed.append(words)
        return whole(*words, **more)

    monkeypatch.setattr(store, "push", push)
    with pytest.raises(KeyboardInterrupt):
        bring(store, folder)
    monkeypatch.undo()
    assert bring(store, folder)[0]
    assert len(files(tmp_path / "working")) == 5


def test_a_store_that_is_full_is_said_in_two_lines(tmp_path: Path, store: FolderStore, monkeypatch):
    from supervisor.core.ports import StoreError

    def full(*_words, **_more):
        raise StoreError("no space left", "full")

    monkeypatch.setattr(store, "push", full)
    with pytest.raises(UserError, match="could not be copied: no space left"):
        bring(store, left(tmp_path / "first", CheckpointId(1, 900, "aa", 1)))
