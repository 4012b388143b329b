"""The drive's store on a real rclone mount: hangs, vanishing and replaced mounts, and the evidence of real uploads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from supervisor.core.digest import XXH3
from supervisor.core.ports import Missing, StoreError, Unconfirmed
from supervisor.stores.drive import EMPTIED_BYTES_MIN
from supervisor.stores.mounted import MountedStore
from supervisor.stores.mounts import drive_of, mounts
from tests.contracts.drives import missing_tools
from tests.drives.drive import Guard
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow
DEADLINE_S = 0.3


class Tuned(RcloneDrive):
    """An rclone with more options, of which the last one counts."""

    def __init__(self, folder: Path, guard: Guard, *options: str, **known: str) -> None:
        super().__init__(folder, guard, **known)
        self.options = options

    def command(self) -> Sequence[str]:
        return [*super().command(), *self.options]

    def store(self, patience_s: float = 20.0) -> MountedStore:
        where = str(self.root / "deep/store")
        return MountedStore(where, mount=drive_of(where, mounts()), patience_s=patience_s)


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[..., Tuned]]:
    if why := missing_tools():
        pytest.skip(why)
    guard, made = Guard(), []

    def make(*options: str, **known: str) -> Tuned:
        made.append(Tuned(tmp_path / f"drive-{len(made)}", guard, *options, **known))
        made[-1].mount()
        return made[-1]

    yield make
    for each in made:
        each.kill()
    guard.end()


@pytest.fixture
def drive(mounted) -> Tuned:
    return mounted(write_back="100ms")


def proved(store: MountedStore, path: str) -> str:
    """Wait for the evidence."""
    while True:
        try:
            return store.evidence(path)
        except Unconfirmed as unconfirmed:
            if not unconfirmed.possible:
                raise
            time.sleep(0.05)


def kind_of(act: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as failed:
        act()
    assert type(failed.value) is StoreError
    return failed.value.kind


def test_a_drive_that_hangs_costs_the_deadline_and_is_used_again_when_it_goes_on(drive):
    store = drive.store()
    store.create("run/file", b"x")
    store._workers._patience_s = DEADLINE_S
    drive.stop()
    try:
        assert kind_of(lambda: store.list("run")) == "hung"
        assert kind_of(lambda: store.create("run/other", b"x")) == "hung"
        assert kind_of(lambda: store.evidence("run/file")) == "hung"
    finally:
        drive.go()
    store._workers._patience_s = 20.0
    assert store.read("run/file") == b"x"
    store.create("run/later", b"y")


def test_a_drive_that_hangs_from_the_start_is_a_clean_error_of_the_first_verb(drive):
    drive.stop()
    try:
        store = drive.store(DEADLINE_S)
        assert kind_of(lambda: store.list("")) == "hung"
    finally:
        drive.go()


def test_while_it_hangs_only_a_few_processes_wait_for_it(drive):
    store = drive.store()
    store.create("run/file", b"x")
    store._workers._patience_s = 0.05
    drive.stop()
    try:
        assert {kind_of(lambda: store.read("run/file")) for _ in range(8)} == {"hung"}
        assert len(store._workers._lost) <= 4
    finally:
        drive.go()


@pytest.mark.parametrize("how", ["detach", "kill", "die"])
def test_a_mount_that_vanished_is_gone_and_nothing_is_written_below_it_until_it_is_back(drive, tmp_path, how):
    store = drive.store()
    store.create("run/run.json", b'{"id": 1}')
    assert proved(store, "run/run.json") == "rclone"
    fresh = drive.store()
    getattr(drive, how)()
    (tmp_path / "local").write_bytes(b"x")
    for act in (
        lambda: store.create("run/file", b"x"),
        lambda: store.push(str(tmp_path / "local"), "run/pushed", XXH3),
        lambda: store.list("run"),
        lambda: store.list("nowhere"),
        lambda: store.read("run/none"),
        lambda: store.delete("run/run.json"),
        lambda: fresh.create("run/file", b"x"),
    ):
        assert kind_of(act) == "gone"
    drive.kill()
    assert drive.below == []
    drive.mount()
    assert [entry.name for entry in store.list("run")] == ["run.json"]
    store.create("run/file", b"y")
    assert proved(store, "run/file") == "rclone"


def test_another_drive_at_the_same_point_is_not_the_run_s(drive, tmp_path):
    store = drive.store()
    store.create("run/run.json", b'{"id": 1}')
    proved(store, "run/run.json")
    drive.reclaim()
    drive.cloud.rename(tmp_path / "elsewhere")
    drive.cloud.mkdir()
    drive.mount()
    assert kind_of(lambda: store.list("run")) == "gone"
    assert kind_of(lambda: store.create("run/file", b"x")) == "gone"
    drive.kill()
    assert list(drive.cloud.rglob("*")) == []


def test_there_is_no_evidence_before_the_last_byte_is_in_the_cloud(mounted, tmp_path):
    drive = mounted(write_back="100ms", bwlimit="2M")
    store = drive.store()
    (tmp_path / "local").write_bytes(bytes(1_500_000))
    store.push(str(tmp_path / "local"), "run/state", XXH3)
    with pytest.raises(Unconfirmed) as answer:
        store.evidence("run/state")
    assert answer.value.possible
    assert proved(store, "run/state") == "rclone"
    assert (drive.cloud / "deep/store/run/state").read_bytes() == bytes(1_500_000)


def test_what_was_proved_stays_so_when_rclone_forgets_it(mounted):
    drive = mounted("--vfs-cache-max-age", "3s", "--vfs-cache-poll-interval", "200ms", write_back="100ms")
    store = drive.store()
    store.create("run/file", b"x")
    assert proved(store, "run/file") == "rclone"
    until(lambda: not list((drive.cache / "vfsMeta").rglob("file")))
    assert store.evidence("run/file") == "rclone"
    with pytest.raises(Unconfirmed):
        drive.store().evidence("run/file")


def test_what_a_killed_rclone_had_not_uploaded_is_proved_when_the_next_one_has(mounted):
    drive = mounted(write_back="1h")
    store = drive.store()
    store.create("run/file", b"x")
    drive.kill_at_rest()
    assert not list(drive.cloud.rglob("file"))
    drive.write_back = "100ms"
    drive.mount()
    assert proved(drive.store(), "run/file") == "rclone"
    assert (drive.cloud / "deep/store/run/file").read_bytes() == b"x"


def test_what_was_lost_with_the_cache_is_never_proved(mounted):
    drive = mounted(write_back="1h")
    store = drive.store()
    store.create("run/file", b"x")
    with pytest.raises(Unconfirmed):
        store.evidence("run/file")
    drive.reclaim()
    drive.mount()
    with pytest.raises(Missing):
        drive.store().evidence("run/file")


@pytest.mark.parametrize("mode", ["off", "minimal"])
def test_an_rclone_that_sends_while_it_is_written_has_sent_what_was_closed(mounted, mode):
    drive = mounted("--vfs-cache-mode", mode, "--bwlimit", "2M")
    store = drive.store()
    assert store.traits.evidence == "rclone"
    body = b"weights" * 700_000
    store.create("run/file", body)
    assert (drive.cloud / "deep/store/run/file").read_bytes() == body
    assert store.evidence("run/file") == "rclone"
    store.delete("run/file")
    assert store.list("run") == ()


@pytest.mark.parametrize("mode", ["off", "minimal"])
def test_what_was_removed_does_not_come_back_by_the_sending_of_its_emptiness(mounted, mode):
    drive = mounted("--vfs-cache-mode", mode)
    store = drive.store()
    names = [f"run/{number}" for number in range(12)]  # because each comes back only if the sending is late
    for name in names:
        store.create(name, bytes(2 * EMPTIED_BYTES_MIN))
        store.delete(name)
        assert store.list("run") == ()
    drive.kill()
    assert [path for path in drive.cloud.rglob("*") if path.is_file()] == []


def test_what_cannot_fit_is_refused_before_anything_is_written(mounted, tmp_path):
    drive = mounted()
    store = drive.store()
    free = store.free_bytes()
    assert free is not None
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(free + 10**9)
    assert kind_of(lambda: store.push(str(tmp_path / "sparse"), "run/state", XXH3)) == "full"
    assert store.list("run") == ()
