"""The laws of ``core.ports.Store``, for every store of the table, the drive's, the fake, and each in its wrappers.

A new row of the table is tested by being there.
"""

from __future__ import annotations

import errno
import os
import time
from importlib import import_module
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.core.digest import SHA256, XXH3, digest_of
from supervisor.core.errors import UserError
from supervisor.core.ports import Entry, Measured, Missing, Store, StoreError, Taken, Traits, Unconfirmed
from supervisor.engine.fenced import FencedStore
from supervisor.engine.place import RunPlace
from supervisor.stores import TABLE, retrying
from supervisor.stores.retrying import RetryingStore
from tests.contracts import drives
from tests.contracts.acknowledging import AcknowledgingStore
from tests.simulation.virtual_store import Shelf, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = b"weights" * 1000


def made(name: str, root: Path) -> Store:
    module, _, kind = TABLE[name].partition(":")
    store: Store = getattr(import_module(module), kind)(str(root / "store"))
    return store


def virtual() -> Store:
    """Return the simulation's store in a world where nothing happens."""
    world = SimpleNamespace(
        now=0.0, hazard=_nothing, chance=Random(1), hostility=SimpleNamespace(error_at_op=0.0, lost_answer=0.0)
    )
    observer = SimpleNamespace(listed=_nothing, writing=_nothing, written=_nothing, deleting=_nothing, deleted=_nothing)
    view = View(Shelf(), world, observer)
    view.process = SimpleNamespace(machine="here")
    return view


def _nothing(*_: object) -> None:
    return None


WRAPPERS = {
    "plain": lambda store: store,
    "retried": RetryingStore,
    "fenced": lambda store: FencedStore(store, RunPlace("another run"), Rank(1, "aa")),
}


ROWS = [f"{name}, {wrapper}" for name in (*TABLE, "virtual", "drive") for wrapper in WRAPPERS]
ROWS += ["drive in a worker, retried", pytest.param("rclone, retried", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def rclone(tmp_path_factory) -> Iterator[drives.Rclone]:
    if why := drives.missing_tools():
        pytest.skip(why)
    mount = drives.Rclone(tmp_path_factory.mktemp("rclone"))
    yield mount
    mount.end()


@pytest.fixture(params=ROWS)
def row(request) -> tuple[str, str]:
    name, _, wrapper = request.param.partition(", ")
    return name, wrapper


@pytest.fixture
def store(row, request, tmp_path, monkeypatch) -> Store:
    monkeypatch.setattr(retrying, "WAIT_S_MAX", 0.0)
    name, wrapper = row
    makers: dict[str, Callable[[], Store]] = {
        "virtual": virtual,
        "relay": lambda: AcknowledgingStore(str(tmp_path / "store")),
        "drive": lambda: drives.in_process(tmp_path / "store"),
        "drive in a worker": lambda: drives.in_worker(tmp_path / "store"),
        "rclone": lambda: request.getfixturevalue("rclone").store(),
    }
    made_here = makers[name]() if name in makers else made(name, tmp_path)
    wrapped: Store = WRAPPERS[wrapper](made_here)
    return wrapped


@pytest.fixture
def local(tmp_path) -> Path:
    path = tmp_path / "local.bin"
    path.write_bytes(BODY)
    return path


def measured(body: bytes, algorithm: str = XXH3) -> Measured:
    return Measured(len(body), digest_of((body,), algorithm))


def test_it_says_what_it_is(store):
    assert isinstance(store.traits, Traits)
    assert store.traits.where
    assert store.traits.evidence or store.traits.mounted


def test_an_absent_folder_has_no_names(store):
    assert list(store.list("nothing/here")) == []
    assert list(store.list("")) == []


def test_what_is_absent_is_missing_in_every_verb_that_reads(store, tmp_path):
    for act in (
        lambda: store.read("run/none"),
        lambda: store.pull("run/none", str(tmp_path / "target"), XXH3),
        lambda: store.evidence("run/none"),
        lambda: store.push(str(tmp_path / "absent"), "run/new", XXH3),
    ):
        with pytest.raises(Missing):
            act()
    assert [entry.name for entry in store.list("run")] == []


@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "a byte", "longer"])
def test_what_was_created_reads_back_the_same(store, body):
    store.create("run/session/claim.json", body)
    assert store.read("run/session/claim.json") == body


@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
@pytest.mark.parametrize("algorithm", [XXH3, SHA256])
@pytest.mark.parametrize("body", [b"", BODY], ids=["empty", "longer"])
def test_what_was_pushed_comes_back_the_same_and_measured(store, tmp_path, body, algorithm, link):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(body)
    assert store.push(str(source), "run/step/state", algorithm, link=link) == measured(body, algorithm)
    assert store.pull("run/step/state", str(target), algorithm, link=link) == measured(body, algorithm)
    assert target.read_bytes() == body
    source.unlink()
    target.unlink()
    assert store.read("run/step/state") == body


def test_who_does_not_ask_for_links_may_write_into_what_was_pushed_and_pulled(store, local, tmp_path):
    store.push(str(local), "run/file", XXH3)
    store.pull("run/file", str(tmp_path / "target"), XXH3)
    for mine in (local, tmp_path / "target"):
        mine.write_bytes(b"other")
    assert store.read("run/file") == BODY


def test_an_algorithm_that_nobody_knows_is_refused(store, local):
    with pytest.raises(UserError, match="does not know"):
        store.push(str(local), "run/file", "md17")
    assert [entry.name for entry in store.list("run")] == []


def test_pieces_longer_than_one_chunk_come_back_the_same(store, tmp_path):
    body = os.urandom(9 * 1024 * 1024 + 1)
    (tmp_path / "source").write_bytes(body)
    assert store.push(str(tmp_path / "source"), "run/big", XXH3) == measured(body)
    assert store.pull("run/big", str(tmp_path / "target"), XXH3) == measured(body)


def test_names_are_listed_in_order_with_their_kind_and_length(store, local):
    store.push(str(local), "run/b", XXH3)
    store.create("run/a", b"123")
    store.create("run/c/inside", b"")
    assert list(store.list("run")) == [Entry("a", False, 3), Entry("b", False, len(BODY)), Entry("c", True)]


def test_nothing_that_exists_is_ever_changed(store, local):
    store.create("run/file", b"first")
    with pytest.raises(Taken):
        store.create("run/file", b"second")
    with pytest.raises(Taken):
        store.push(str(local), "run/file", XXH3)
    assert store.read("run/file") == b"first"
    assert [entry.name for entry in store.list("run")] == ["file"]


def test_a_pull_replaces_what_lies_on_the_local_disk(store, local, tmp_path):
    store.create("run/file", b"short")
    store.pull("run/file", str(local), XXH3)
    assert local.read_bytes() == b"short"


def test_evidence_is_of_the_kind_the_traits_promise(store):
    store.create("run/file", b"x")
    assert proved(store, "run/file") == store.traits.evidence


def proved(store: Store, path: str) -> str:
    """Return the evidence as soon as there is any; "" if there can be none."""
    while True:
        try:
            return store.evidence(path)
        except Unconfirmed as unconfirmed:
            if not unconfirmed.possible:
                return ""
            time.sleep(0.05)


def test_the_room_is_told_or_not_known(store):
    free = store.free_bytes()
    assert free is None or free > 0


def test_what_was_deleted_is_missing_and_its_name_is_free(store):
    store.create("run/file", b"x")
    store.delete("run/file")
    with pytest.raises(Missing):
        store.read("run/file")
    store.create("run/file", b"y")
    assert store.read("run/file") == b"y"


def test_deleting_what_is_absent_is_fine(store):
    store.delete("run/none")
    store.delete("nowhere/at/all")


def test_an_empty_folder_can_be_deleted_and_a_full_one_not(store):
    store.create("run/step/file", b"x")
    with pytest.raises(StoreError):
        store.delete("run/step")
    assert store.read("run/step/file") == b"x"
    store.delete("run/step/file")
    store.delete("run/step")
    assert list(store.list("run")) == []


def test_sweeping_takes_nothing_that_a_reader_can_see(store):
    store.create("run/file", b"x")
    assert store.sweep("run") == 0
    assert store.sweep("nowhere") == 0
    assert store.read("run/file") == b"x"


def test_no_path_leads_out_of_the_store(store, local):
    for act in (
        lambda: store.read("../secret"),
        lambda: store.create("run/../../secret", b""),
        lambda: store.push(str(local), "../secret", XXH3),
        lambda: store.list(".."),
        lambda: store.delete("../local.bin"),
    ):
        with pytest.raises(StoreError):
            act()
    assert local.exists()


def test_names_of_people_are_kept_as_they_are(store):
    for name in ("车牌 run", "a (1)", "ünïcode~1.json"):
        store.create(f"{name}/{name}", b"x")
        assert [entry.name for entry in store.list(name)] == [name]


def test_a_local_failure_is_not_blamed_on_the_store(store, local, tmp_path):
    store.push(str(local), "run/file", XXH3)
    with pytest.raises(StoreError) as failed:
        store.pull("run/file", str(tmp_path / "no such folder" / "target"), XXH3)
    assert failed.value.kind == "local"
    assert not isinstance(failed.value, Missing)


def test_a_pull_never_writes_into_what_the_local_name_held(store, local):
    store.push(str(local), "run/mine", XXH3, link=True)
    store.create("run/other", b"other")
    for link in (False, True):
        store.pull("run/other", str(local), XXH3, link=link)
        assert local.read_bytes() == b"other"
    assert store.read("run/mine") == BODY
    store.pull("run/mine", str(local), XXH3)
    assert store.read("run/other") == b"other"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOTCONN, errno.ESTALE])
def test_unreadable_is_never_absent(store, row, request, tmp_path, code):
    store.create("run/step/file", b"x")
    mount = request.getfixturevalue("rclone") if row[0] == "rclone" else None
    for act in (
        lambda: store.read("run/step/file"),
        lambda: store.pull("run/step/file", str(tmp_path / "target"), XXH3),
        lambda: store.list("run/step"),
        lambda: store.list("run/none"),
        lambda: store.evidence("run/step/file"),
    ):
        with drives.unreadable(store, code, mount), pytest.raises(StoreError) as failed:
            act()
        assert not isinstance(failed.value, Missing | Unconfirmed)
