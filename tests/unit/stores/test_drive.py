"""What is particular to a drive: the mount is proved before anything is done, and writes are believed late or never."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.digest import XXH3
from supervisor.core.ports import Missing, StoreError, Taken, Unconfirmed
from supervisor.stores import drive
from supervisor.stores.drive import DriveStore
from supervisor.stores.held import HeldMount
from supervisor.stores.mounts import mount_of, mounts
from tests.contracts.drives import Obliging
from tests.faults import syscalls

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.stores.mounts import Mount


class Place:
    """A drive's store on this disk, whose mount table can be rewritten."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._table = folder, folder / "mountinfo"
        self.mount = mount_of(str(folder), mounts())
        self.root = folder / "store"
        self.client = Obliging()
        self.show(self.mount)
        self.store = self.fresh()

    def fresh(self) -> DriveStore:
        held = HeldMount(str(self.root), self.mount, str(self._table))
        return DriveStore(held, choose=lambda _mount, _fd: self.client)

    def show(self, *found: Mount) -> None:
        """Let the table show these mounts."""
        lines = [f"{m.id} {m.parent} {m.device} {m.root} {m.point} rw - {m.fstype} {m.source} rw\n" for m in found]
        self._table.write_text("".join(lines), "utf-8")

    def written(self) -> list[str]:
        return sorted(path.name for path in self.root.rglob("*") if path.is_file())


LARGE = bytes(drive.EMPTIED_BYTES_MIN)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def store(place) -> DriveStore:
    return place.store


def every_verb(store: DriveStore, tmp_path: Path):
    (tmp_path / "local").write_bytes(b"x")
    return (
        lambda: store.list(""),
        lambda: store.list("nothing/here"),
        lambda: store.read("run/file"),
        lambda: store.read("run/none"),
        lambda: store.create("run/new", b"x"),
        lambda: store.push(str(tmp_path / "local"), "run/new", XXH3),
        lambda: store.pull("run/file", str(tmp_path / "target"), XXH3),
        lambda: store.delete("run/file"),
        lambda: store.delete("run/none"),
        lambda: store.sweep("run"),
        lambda: store.evidence("run/file"),
        store.free_bytes,
    )


def all_are_gone(store: DriveStore, tmp_path: Path) -> None:
    for act in every_verb(store, tmp_path):
        with pytest.raises(StoreError) as failed:
            act()
        assert failed.value.kind == "gone"
        assert type(failed.value) is StoreError


CHANGES = {
    "unmounted": lambda _mount: (),
    "another drive": lambda mount: (replace(mount, source="another"),),
    "another kind of mount": lambda mount: (replace(mount, fstype="tmpfs"),),
    "another folder of it": lambda mount: (replace(mount, root="/elsewhere"),),
    "another device": lambda mount: (replace(mount, device="0:9999"),),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_mount_that_changed_is_gone_in_every_verb_and_nothing_is_written(place, store, tmp_path, change):
    store.create("run/file", b"x")
    place.show(*CHANGES[change](place.mount))
    all_are_gone(store, tmp_path)
    all_are_gone(place.fresh(), tmp_path)
    assert place.written() == ["file"]


def test_a_mount_that_is_back_is_used_again(place, store):
    store.create("run/file", b"x")
    place.show()
    with pytest.raises(StoreError):
        store.read("run/file")
    place.show(place.mount)
    assert store.read("run/file") == b"x"
    store.create("run/other", b"y")


def test_a_plain_folder_in_the_mount_s_place_is_never_written(place, tmp_path):
    point = replace(place.mount, id=9999, parent=place.mount.id, point=str(tmp_path / "M"))
    (tmp_path / "M").mkdir()
    place.show(place.mount, point)
    place.mount, place.root = point, tmp_path / "M" / "store"
    all_are_gone(place.fresh(), tmp_path)
    assert list((tmp_path / "M").iterdir()) == []


def test_the_root_is_made_below_the_mount_and_an_absent_one_is_empty(place, tmp_path):
    place.root = tmp_path / "My Drive" / "deep" / "store"
    store = place.fresh()
    assert store.list("") == ()
    store.create("run/file", b"x")
    assert (place.root / "run/file").read_bytes() == b"x"


def test_a_link_that_leads_away_from_the_drive_is_not_followed(store, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/run").symlink_to("/proc")
    for act in (lambda: store.create("run/x", b""), lambda: store.read("run/uptime"), lambda: store.list("run")):
        with pytest.raises(StoreError, match="it is a link, and none is followed in a store"):
            act()


def test_a_drive_that_bears_another_record_of_the_run_is_another_drive(place, store, tmp_path):
    store.create("run/run.json", b'{"id": 1}')
    store.create("run/file", b"x")
    (place.root / "run/run.json").write_bytes(b'{"id": 2}')
    store.held.release()
    for act in (
        lambda: store.create("run/new", b"x"),
        lambda: store.push(str(tmp_path / "mountinfo"), "run/new", XXH3),
        lambda: store.delete("run/file"),
    ):
        with pytest.raises(StoreError, match="another drive") as failed:
            act()
        assert failed.value.kind == "gone"
    assert place.written() == ["file", "run.json"]


def test_two_machines_that_begin_a_run_at_once_both_write_its_record_and_neither_takes_the_drive_for_another(
    place, store
):
    store.create("run/run.json", b'{"id": 1}')
    (place.root / "run/run.json").write_bytes(b'{"id": 2}')
    store.create("run/e1-mine/claim.json", b"{}")
    (place.root / "run/run.json").write_bytes(b'{"id": 3}')
    store.held.release()
    store.create("run/e1-mine/file", b"x")
    later = place.fresh()
    later.marks.update(store.marks)
    (place.root / "run/run.json").write_bytes(b'{"id"')
    later.create("run/e1-mine/another", b"x")
    (place.root / "run/e1-mine/claim.json").write_bytes(b"[]")
    with pytest.raises(StoreError, match="another drive"):
        later.create("run/e1-mine/third", b"x")


def test_a_drive_without_the_run_s_record_is_another_drive(place, store):
    store.create("run/run.json", b'{"id": 1}')
    (place.root / "run/run.json").unlink()
    with pytest.raises(StoreError, match="another drive"):
        store.create("run/new", b"x")
    assert store.list("other") == ()


def test_after_the_mount_was_opened_anew_not_even_a_listing_is_believed_of_another_drive(place, store):
    store.create("run/run.json", b'{"id": 1}')
    (place.root / "run/run.json").write_bytes(b'{"id": 2}')
    store.held.release()
    for act in (lambda: store.list("run"), lambda: store.list("run/x"), lambda: store.read("run/x")):
        with pytest.raises(StoreError) as failed:
            act()
        assert failed.value.kind == "gone"


def test_a_record_that_is_half_there_is_not_remembered(place, store):
    (place.root / "run").mkdir(parents=True)
    (place.root / "run/run.json").write_bytes(b'{"id"')
    assert store.read("run/run.json") == b'{"id"'
    (place.root / "run/run.json").write_bytes(b'{"id": 1}')
    store.create("run/new", b"x")
    assert list(store.marks) == ["run"]


def test_marks_are_handed_over(place, store):
    store.create("run/run.json", b'{"id": 1}')
    (place.root / "run/run.json").write_bytes(b'{"id": 2}')
    later = place.fresh()
    later.marks.update(store.marks)
    with pytest.raises(StoreError):
        later.create("run/new", b"x")


def test_short_writes_are_gone_on_with(store):
    with syscalls.bent(syscalls.mangled(1, "short", lasting=True, of="")):
        store.create("run/file", b"weights")
    assert store.read("run/file") == b"weights"


@pytest.mark.parametrize("how", ["lost", "garbage"])
def test_a_drive_that_lies_about_writes_is_found_out(place, store, how):
    with syscalls.bent(syscalls.mangled(1, how, lasting=True, of="")), pytest.raises(StoreError) as failed:
        store.create("run/file", b"weights")
    assert failed.value.kind == "lied"
    assert place.written() == []


@pytest.mark.parametrize("name", ["write", "fsync", "close"])
@pytest.mark.parametrize(
    "error",
    [(errno.EIO, "unreadable"), (errno.ENOSPC, "full"), (errno.EDQUOT, "full"), (errno.ENOTCONN, "gone")],
)
def test_every_error_of_a_write_counts_and_its_part_is_removed(place, store, tmp_path, name, error):
    code, kind = error
    (tmp_path / "local").write_bytes(b"weights")

    def fail(call: syscalls.Call):
        if call.name == name and call.path.endswith(("run/file", "run/state")):
            if name == "close":
                call.go()
            raise OSError(code, os.strerror(code))
        return call.go()

    for act in (
        lambda: store.create("run/file", b"weights"),
        lambda: store.push(str(tmp_path / "local"), "run/state", XXH3),
    ):
        with syscalls.bent(fail), pytest.raises(StoreError) as failed:
            act()
        assert failed.value.kind == kind
    assert place.written() == []
    store.create("run/file", b"weights")


def test_a_file_of_another_writer_is_never_removed(place, store):
    store.create("run/file", b"first")
    with pytest.raises(Taken):
        store.create("run/file", b"second")
    assert place.written() == ["file"]


def test_what_does_not_fit_is_not_begun(place, store, tmp_path, monkeypatch):
    (tmp_path / "local").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(store, "free_bytes", lambda: 1_000_000)
    with pytest.raises(StoreError, match=r"2\.0 MB.*1\.0 MB") as failed:
        store.push(str(tmp_path / "local"), "run/state", XXH3)
    assert failed.value.kind == "full"
    assert place.written() == []


def test_the_room_is_that_of_the_client_s_cache_if_that_is_less(place, store, monkeypatch):
    monkeypatch.setattr(drive.disk, "free_bytes", lambda _folder: 7)
    assert store.free_bytes() > 7
    monkeypatch.setattr(place.client, "cache", lambda: "/cache")
    assert store.free_bytes() == 7


def test_not_even_a_small_file_fills_up_the_client_s_cache(place, store, monkeypatch):
    monkeypatch.setattr(drive.disk, "free_bytes", lambda _folder: 1_000_000)
    monkeypatch.setattr(place.client, "cache", lambda: "/cache")
    with pytest.raises(StoreError) as failed:
        store.create("run/file", b"x")
    assert failed.value.kind == "full"
    assert place.written() == []


def test_an_unreadable_local_file_is_not_blamed_on_the_drive(store, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError) as failed:
        store.push(str(tmp_path / "folder"), "run/state", XXH3)
    assert failed.value.kind == "local"


def test_a_file_is_emptied_and_that_uploaded_before_it_is_removed(place, store, monkeypatch):
    seen: list[int] = []
    answers = iter([Unconfirmed("not yet"), Unconfirmed("not yet"), None])

    def see(file):
        seen.append(file.length)
        if answer := next(answers):
            raise answer
        return "obliging"

    monkeypatch.setattr(place.client, "see", see)
    monkeypatch.setattr(drive, "LOOK_EVERY_S", 0.0)
    store.create("run/file", LARGE)
    store.delete("run/file")
    assert seen == [0, 0, 0]
    assert place.written() == []


def test_a_small_file_is_removed_at_once_because_retention_removes_many(place, store, monkeypatch):
    monkeypatch.setattr(place.client, "see", lambda _file: pytest.fail("waited"))
    store.create("run/file", LARGE[1:])
    store.delete("run/file")
    assert place.written() == []


@pytest.mark.parametrize("possible", [True, False])
def test_an_upload_that_does_not_come_is_not_waited_for_for_ever(place, store, monkeypatch, possible):
    asked = []

    def see(_file):
        asked.append(1)
        raise Unconfirmed("no", possible=possible)

    monkeypatch.setattr(place.client, "see", see)
    monkeypatch.setattr(drive, "LOOK_EVERY_S", 0.0)
    store.create("run/file", LARGE)
    store.delete("run/file")
    assert len(asked) == (drive.LOOKS_MAX if possible else 1)
    assert place.written() == []


def test_a_file_that_vanishes_is_missing_only_where_the_mount_still_is(place, store, monkeypatch):
    store.create("run/file", b"x")
    with pytest.raises(Missing):
        store.read("run/none")
    opened = os.open

    def vanish(path, *args, **kwargs):
        if str(path).endswith("none"):
            place.show()
            raise FileNotFoundError(errno.ENOENT, "none", path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", vanish)
    for act in (lambda: store.read("run/none"), lambda: store.list("run/none")):
        place.show(place.mount)
        with pytest.raises(StoreError) as failed:
            act()
        assert failed.value.kind == "gone"


def test_what_was_confirmed_is_remembered_until_it_is_written_anew(store):
    store.create("run/file", b"x")
    store.evidence("run/file")
    assert store.confirmed == {"run/file"}
    store.delete("run/file")
    assert store.confirmed == set()


def test_long_work_ticks(place, tmp_path):
    ticks = []
    place.store.tick = lambda: ticks.append(1)
    (tmp_path / "local").write_bytes(bytes(9_000_000))
    place.store.push(str(tmp_path / "local"), "run/state", XXH3)
    assert len(ticks) >= 6
