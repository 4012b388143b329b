"""Workers: one that hangs costs its caller the deadline and nobody anything else; what they say comes back as it was said."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from benchmarks.machines import until
from supervisor.core.digest import XXH3
from supervisor.core.errors import UserError
from supervisor.core.ports import Missing, StoreError, Taken, Unconfirmed
from supervisor.stores import wire, workers
from supervisor.stores.mounted import MountedStore
from supervisor.stores.mounts import Mount, mount_of, mounts
from tests.drives.drive import WAIT_S_MAX, stopped


def opened(root: Path, patience_s: float = 20.0) -> MountedStore:
    return MountedStore(str(root), mount=mount_of(str(root), mounts()), patience_s=patience_s)


@pytest.fixture
def store(tmp_path) -> MountedStore:
    return opened(tmp_path / "store")


def worker_of(store: MountedStore) -> workers.Worker:
    """Return the store's one idle worker."""
    store.list("")
    (worker,) = store._workers._idle
    return worker


def end(worker: workers.Worker) -> None:
    """Kill a worker; nobody reaps it here, because that is for its store to do."""
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: "\nState:\tZ" in Path(f"/proc/{worker.pid}/status").read_text("ascii"))


def freeze(worker: workers.Worker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: stopped(worker.pid))


@pytest.mark.parametrize(
    "error",
    [
        StoreError("x", "full"),
        Missing("x"),
        Taken("x"),
        Unconfirmed("x"),
        Unconfirmed("x", possible=False),
        UserError("what", "hint", 7),
    ],
)
def test_errors_travel_by_name_with_all_they_say(error):
    back = wire.unpacked(wire.packed(error))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_nothing_is_asked_of_the_drive_before_the_first_verb(tmp_path):
    nowhere = Mount(1, 0, "0:1", "/", str(tmp_path / "gone"), "fuse.drive", "drive")
    store = MountedStore(str(tmp_path / "gone/store"), mount=nowhere)
    assert (store.traits.place, store.traits.evidence, store.traits.settle_s) == ("Drive", "drivefs", 60.0)
    with pytest.raises(StoreError) as failed:
        store.list("")
    assert failed.value.kind == "gone"


def test_the_settle_time_can_be_chosen(tmp_path):
    mount = Mount(1, 0, "0:1", "/", str(tmp_path), "fuse.other", "x")
    chosen = MountedStore(str(tmp_path), mount=mount, settle_s=3.0).traits
    assert (chosen.settle_s, chosen.safe_settle_s) == (3.0, 60.0), "so that a start can warn of it"
    assert MountedStore(str(tmp_path), mount=mount).traits.place == "the mounted drive"


def test_a_relative_place_is_where_it_is_for_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = MountedStore("store", mount=mount_of(str(tmp_path), mounts()))
    store.create("run/file", b"x")
    (tmp_path / "local").write_bytes(b"y")
    store.push("local", "run/local", XXH3)
    store.pull("run/file", "back", XXH3)
    assert (tmp_path / "store/run/local").read_bytes() == b"y"
    assert (tmp_path / "back").read_bytes() == b"x"


def test_one_worker_does_one_call_after_the_other(store):
    first = worker_of(store)
    store.create("run/file", b"x")
    assert worker_of(store) is first


def test_a_worker_that_is_silent_is_given_up_at_the_deadline_and_the_next_call_has_another(store):
    worker = worker_of(store)
    freeze(worker)
    store._workers._patience_s = 0.05
    with pytest.raises(StoreError, match="has not answered") as failed:
        store.list("")
    assert failed.value.kind == "hung"
    store._workers._patience_s = 20.0
    assert store.list("") == ()
    until(worker.is_over)


def test_while_a_few_calls_hang_in_the_kernel_no_more_are_begun(store, monkeypatch):
    worker_of(store)
    monkeypatch.setattr(workers.Worker, "is_over", lambda _self: False)
    store._workers._lost = [object.__new__(workers.Worker) for _ in range(workers.WORKERS_MAX)]
    with pytest.raises(StoreError, match="4 earlier calls") as failed:
        store.list("")
    assert failed.value.kind == "hung"


def test_a_call_that_finds_all_workers_busy_waits_no_longer_than_the_deadline(store):
    store._workers._busy, store._workers._patience_s = workers.WORKERS_MAX, 0.01
    with pytest.raises(StoreError, match="busy") as failed:
        store.list("")
    assert failed.value.kind == "hung"


def test_a_worker_that_dies_between_calls_is_replaced(store):
    end(worker_of(store))
    assert store.list("") == ()


def test_a_worker_that_dies_over_a_call_is_an_error_and_the_next_call_works(store, tmp_path):
    os.mkfifo(tmp_path / "endless")
    worker = worker_of(store)
    failed: list[StoreError] = []

    def push() -> None:
        try:
            store.push(str(tmp_path / "endless"), "run/file", XXH3)
        except StoreError as error:
            failed.append(error)

    thread = threading.Thread(target=push)
    thread.start()
    writers: list[int] = []
    until(lambda: _writes(tmp_path / "endless", writers))
    os.kill(worker.pid, signal.SIGKILL)
    thread.join(WAIT_S_MAX)
    os.close(*writers)
    assert [error.kind for error in failed] == ["unreadable"]
    assert store.list("nowhere") == ()


def test_several_threads_call_at_once(store):
    def fill(number: int) -> None:
        for each in range(5):
            store.create(f"run/{number}-{each}", b"x" * 1000)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S_MAX)
    assert len(store.list("run")) == 30
    assert len(store._workers._idle) <= workers.WORKERS_MAX


def test_a_long_push_is_not_silence(store, tmp_path):
    (tmp_path / "local").write_bytes(bytes(40_000_000))
    worker_of(store)
    asked: list[dict] = []
    receive = wire.receive

    def count(fd, **patience):
        header, body = receive(fd, **patience)
        asked.append(header)
        return header, body

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "receive", count)
        store.push(str(tmp_path / "local"), "run/file", XXH3)
    assert sum("tick" in header for header in asked) >= 20


def test_what_one_worker_learned_of_a_run_the_next_one_knows(store, tmp_path):
    store.create("run/run.json", b'{"id": 1}')
    end(worker_of(store))
    (tmp_path / "store/run/run.json").write_bytes(b'{"id": 2}')
    with pytest.raises(StoreError, match="another drive"):
        store.create("run/file", b"x")


def test_a_defect_in_a_worker_is_raised_as_one(store):
    with pytest.raises(RuntimeError, match="AttributeError"):
        store._ask("list", 7)


def test_workers_end_with_their_supervisor_s_interest(tmp_path):
    store = opened(tmp_path / "store")
    worker = worker_of(store)
    del store
    until(worker.is_over)


def test_workers_hear_no_interrupt_of_the_terminal(store):
    assert os.getsid(worker_of(store).pid) != os.getsid(0)


def _writes(fifo: Path, writers: list[int]) -> bool:
    """Open a fifo's other end, which works from the moment on that someone reads it; he waits while it stays open."""
    with contextlib.suppress(OSError):
        writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    return bool(writers)
