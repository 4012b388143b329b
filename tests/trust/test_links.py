"""Links, pipes and folders in the wrong place: nothing behind a link is read, written, emptied or removed, and no reader waits."""

from __future__ import annotations

import os
import threading

import pytest

from supervisor.core import retention
from supervisor.core.claim import Rank
from supervisor.core.ports import Missing, StoreError
from supervisor.engine import catalogue, claims, retaining, runs
from supervisor.engine.checkpoints import look_over
from supervisor.stores.folder import FolderStore
from tests.trust.forged import RUN

WAIT_S = 20.0


@pytest.fixture
def victim(tmp_path):
    folder = tmp_path / "victim"
    (folder / "empty").mkdir(parents=True)
    for name in ("photo.jpg", "thesis.tex", ".tmp-mine"):
        (folder / name).write_text("mine")
    return folder


def untouched(victim):
    kept = {each.name: each.read_text() for each in victim.iterdir() if each.is_file()}
    return kept == dict.fromkeys(("photo.jpg", "thesis.tex", ".tmp-mine"), "mine") and (victim / "empty").is_dir()


def prune(forged, tmp_path):
    known = list(catalogue.judged(forged.store, RUN, tmp_path / "into"))
    catalogue.prune(forged.store, RUN, known, 2)


def within_a_moment(call):
    """Run a call that must not wait for anybody, on a thread so that the test can fail."""
    done = []
    thread = threading.Thread(target=lambda: done.append(call()), daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert done, "it waits for a writer that there is not"
    return done[0]


@pytest.mark.parametrize(
    "place",
    [
        "e00000001-e07acb97/step-000000007",
        "e00000002-bef24668/step-000000001",
        "e00000001-zz",
        "e00000000-aa",
        "environment",
    ],
)
def test_prune_and_retention_remove_nothing_behind_a_link(forged, victim, tmp_path, place):
    (forged.root / RUN.name / place).symlink_to(victim)
    prune(forged, tmp_path)
    retaining.retain(forged.store, RUN, retention.Policy(2), retaining.Knowledge(), Rank(9, "zz"))
    assert untouched(victim)


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "dangling link", "pipe", "folder"])
def test_what_no_session_writes_into_a_step_folder_does_not_keep_retention_from_its_work(
    forged, victim, tmp_path, kind
):
    step = forged.root / RUN.name / "e00000001-e07acb97" / "step-000000007"
    step.mkdir()
    (step / "left.bin").write_bytes(b"x")
    odd = step / "odd"
    {
        "link to a file": lambda: odd.symlink_to(victim / "photo.jpg"),
        "link to a folder": lambda: odd.symlink_to(victim),
        "dangling link": lambda: odd.symlink_to("nowhere"),
        "pipe": lambda: os.mkfifo(odd),
        "folder": lambda: (odd / "inner").mkdir(parents=True),
    }[kind]()
    prune(forged, tmp_path)
    assert not (step / "left.bin").exists()
    assert untouched(victim)


def test_a_link_is_in_no_listing_and_is_named(forged, victim):
    (forged.root / RUN.name / "e00000009-zz").symlink_to(victim)
    (forged.root / RUN.name / "pin-3-40-b4dc8281-1005.json").symlink_to(victim / "photo.jpg")
    store = forged.store
    assert max(claims.ranks(store, RUN)).epoch == 3
    assert retaining.pinned(store, RUN) == set()
    assert store.left_out == {"golden/e00000009-zz", "golden/pin-3-40-b4dc8281-1005.json"}


@pytest.mark.parametrize("act", ["read", "list", "create", "push", "pull", "delete", "sweep", "evidence"])
def test_no_verb_of_a_store_goes_through_a_link(tmp_path, victim, act):
    root = tmp_path / "store"
    root.mkdir()
    (root / "run").symlink_to(victim)
    store = FolderStore(str(root))
    (tmp_path / "local").write_text("local")
    calls = {
        "read": lambda: store.read("run/photo.jpg"),
        "list": lambda: store.list("run"),
        "create": lambda: store.create("run/new/file", b"x"),
        "push": lambda: store.push(str(tmp_path / "local"), "run/file", "sha256", link=True),
        "pull": lambda: store.pull("run/photo.jpg", str(tmp_path / "out"), "sha256", link=True),
        "delete": lambda: store.delete("run/photo.jpg"),
        "sweep": lambda: store.sweep("run"),
        "evidence": lambda: store.evidence("run/photo.jpg"),
    }
    with pytest.raises(StoreError, match="it is a link, and none is followed in a store"):
        calls[act]()
    assert untouched(victim)
    assert sorted(each.name for each in victim.iterdir()) == [".tmp-mine", "empty", "photo.jpg", "thesis.tex"]


def test_a_file_that_is_a_link_is_absent_and_deleting_it_removes_the_link_alone(tmp_path, victim):
    root = tmp_path / "store"
    (root / "run").mkdir(parents=True)
    (root / "run" / "claim.json").symlink_to(victim / "photo.jpg")
    store = FolderStore(str(root))
    with pytest.raises(Missing):
        store.read("run/claim.json")
    with pytest.raises(Missing):
        store.pull("run/claim.json", str(tmp_path / "out"), "sha256", link=True)
    store.delete("run/claim.json")
    assert not (root / "run" / "claim.json").is_symlink()
    assert untouched(victim)


def test_the_place_of_a_store_may_itself_be_a_link_as_its_user_typed_it(tmp_path, forged):
    (tmp_path / "shortcut").symlink_to(forged.root)
    assert runs.names(FolderStore(str(tmp_path / "shortcut"))) == ["golden", "plain"]


@pytest.mark.parametrize(
    "name", ["run.json", "e00000003-b4dc8281/claim.json", "e00000003-b4dc8281/journal-000001.jsonl"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_a_record_that_is_no_file_or_has_no_end_keeps_no_reader_waiting(forged, name, kind):
    path = forged.root / RUN.name / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(3_000_000_000)
    store = forged.store
    assert within_a_moment(lambda: runs.read(store, RUN)) is not None
    assert within_a_moment(lambda: claims.look(store, RUN, lambda _: None)).last is not None
    assert within_a_moment(lambda: runs.last_status(store, RUN, claims.ranks(store, RUN))) is not None
    assert look_over(store, RUN).found
