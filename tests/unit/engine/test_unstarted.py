"""A run whose first start was refused leaves nothing in the store; where another session has been, all stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.claim import Rank
from supervisor.engine import claims, runs
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

RUN, MINE = RunPlace("my run"), Rank(1, "00000001")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    script = tmp_path / "x.py"
    script.write_text("print(1)\n")
    store = FolderStore(str(tmp_path / "runs"))
    runs.enter(store, RUN, script, [], {})
    claims.write_claim(store, RUN, MINE, {})
    store.create(f"{RUN.session(MINE)}/journal-000001.jsonl", b"{}")
    store.create(f"{RUN.environments}/lock.txt", b"#")
    return store


def test_nothing_is_left_of_a_run_that_never_started(store: FolderStore) -> None:
    assert runs.remove_unstarted(store, RUN, MINE)
    assert runs.names(store) == []
    assert not list(Path(store.root).iterdir())


def test_where_another_machine_is_at_it_all_stays(store: FolderStore) -> None:
    claims.write_claim(store, RUN, Rank(2, "00000002"), {})
    before = sorted(Path(store.root).rglob("*"))
    assert not runs.remove_unstarted(store, RUN, MINE)
    assert sorted(Path(store.root).rglob("*")) == before
