"""What is particular to a plain folder: temporary names, flushes, roots that vanish, disks without links."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from supervisor.core.digest import XXH3, digest_of
from supervisor.core.ports import Missing, StoreError, Taken
from supervisor.stores.folder import FolderStore
from tests.faults import syscalls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return FolderStore(str(tmp_path / "store"))


def flushed(act) -> list[str]:
    """Return what was flushed by an act, in order."""
    paths: list[str] = []

    def note(call: syscalls.Call):
        if call.name == "fsync":
            paths.append(call.path)
        return call.go()

    with syscalls.bent(note):
        act()
    return paths


def test_every_folder_on_the_way_is_flushed_once_even_if_it_was_there_because_its_maker_may_have_died(store, tmp_path):
    (tmp_path / "store" / "run").mkdir(parents=True)
    paths = flushed(lambda: store.create("run/session/claim.json", b"x"))
    assert [path for path in paths if "claim" not in path and ".tmp-" not in path] == [
        str(tmp_path), str(tmp_path / "store"), str(tmp_path / "store/run"), str(tmp_path / "store/run/session"),
    ]  # fmt: skip
    assert len(flushed(lambda: store.create("run/session/other.json", b"x"))) == 2


def test_evidence_flushes_anew_what_another_process_may_have_left_unflushed(store, tmp_path):
    (tmp_path / "store" / "run").mkdir(parents=True)
    (tmp_path / "store" / "run" / "file").write_bytes(b"x")
    paths = flushed(lambda: store.evidence("run/file"))
    assert str(tmp_path / "store/run/file") in paths
    assert str(tmp_path / "store/run") in paths
    assert str(tmp_path / "store") in paths


def test_a_deletion_is_flushed_also_when_an_earlier_try_did_it(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store/run/file").unlink()
    assert flushed(lambda: store.delete("run/file")) == [str(tmp_path / "store/run")]


def test_temporary_names_are_no_names(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store/run/.tmp-dead-0").write_bytes(b"half")
    assert [entry.name for entry in store.list("run")] == ["file"]


def test_a_sweep_takes_the_temporary_files_of_others_and_leaves_its_own(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store/run/.tmp-dead-0").write_bytes(b"half")
    (tmp_path / f"store/run/.tmp-{store._token}-7").write_bytes(b"being written by another lane")
    assert store.sweep("run") == 4
    assert sorted(path.name for path in (tmp_path / "store/run").iterdir()) == [f".tmp-{store._token}-7", "file"]


def test_a_folder_with_only_leftovers_of_a_death_is_empty(store, tmp_path):
    (tmp_path / "store/run/step").mkdir(parents=True)
    (tmp_path / "store/run/step/.tmp-dead-0").write_bytes(b"half")
    store.delete("run/step")
    assert not (tmp_path / "store/run/step").exists()


def test_a_write_that_failed_leaves_no_temporary_file(store, tmp_path):
    store.create("run/file", b"x")
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True)), pytest.raises(StoreError) as failed:
        store.create("run/other", b"y")
    assert failed.value.kind == "full"
    assert [path.name for path in (tmp_path / "store/run").iterdir()] == ["file"]


@pytest.mark.parametrize("how", ["lost", "garbage"])
def test_a_disk_that_lies_about_writes_is_found_out(store, how):
    where = store.root
    with syscalls.bent(syscalls.mangled(1, how, lasting=True, of=where)), pytest.raises(StoreError) as failed:
        store.create("run/file", b"weights")
    assert failed.value.kind == "lied"
    assert list(store.list("run")) == []


def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop(store):
    def nothing(call: syscalls.Call):
        return 0 if call.name == "write" else call.go()

    with syscalls.bent(nothing), pytest.raises(StoreError, match="took nothing"):
        store.create("run/file", b"weights")


def test_a_disk_without_links_still_never_overwrites(store):
    def no_links(call: syscalls.Call):
        if call.name == "link":
            raise OSError(errno.EOPNOTSUPP, "no links here", call.path)
        return call.go()

    with syscalls.bent(no_links):
        store.create("run/file", b"first")
        with pytest.raises(Taken):
            store.create("run/file", b"second")
    assert store.read("run/file") == b"first"


def test_a_disk_without_links_that_cannot_be_read_is_not_taken_for_free(store):
    store.create("run/file", b"first")

    def neither(call: syscalls.Call):
        if call.name == "link":
            raise OSError(errno.EPERM, "no links here", call.path)
        if call.name == "lstat":
            raise OSError(errno.EIO, "no answer", call.path)
        return call.go()

    with syscalls.bent(neither), pytest.raises(StoreError):
        store.create("run/file", b"second")
    assert store.read("run/file") == b"first"


def test_a_name_that_goes_away_while_the_folder_is_listed_is_left_out(store, tmp_path):
    for name in ("a", "b"):
        store.create(f"run/{name}", b"x")
    (tmp_path / "store/run/c").symlink_to(tmp_path / "nowhere")
    assert [entry.name for entry in store.list("run")] == ["a", "b"]


def test_a_root_that_was_seen_and_vanished_is_gone_not_empty(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for act in (lambda: store.list("run"), lambda: store.read("run/file"), lambda: store.create("run/b", b"")):
        with pytest.raises(StoreError) as failed:
            act()
        assert failed.value.kind == "gone"
    assert not (tmp_path / "store").exists()


def test_another_folder_under_the_root_s_name_is_not_the_store(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match="not the folder any more"):
        store.list("run")


def test_a_store_below_a_folder_that_we_may_not_open_can_be_used(store, tmp_path):
    (tmp_path / "store").mkdir()

    def closed(call: syscalls.Call):
        if call.name == "open" and call.path == str(tmp_path):
            raise PermissionError(errno.EACCES, "not for you", call.path)
        return call.go()

    with syscalls.bent(closed):
        store.create("run/file", b"x")
        assert store.evidence("run/file") == "fsync"


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def staged(tmp_path) -> Path:
    path = tmp_path / "staged.bin"
    path.write_bytes(b"weights" * 1000)
    return path


def without_links(code: int, *, only_across: bool = True) -> syscalls.Act:
    def act(call: syscalls.Call):
        if call.name == "link" and not (only_across and ".tmp-" in str(call.args[0])):
            raise OSError(code, "no links here", call.path)
        return call.go()

    return act


def test_a_file_of_the_same_disk_is_linked_in_and_out_and_nothing_is_written(store, staged, tmp_path):
    written: list[str] = []

    def note(call: syscalls.Call):
        if call.name == "write":
            written.append(call.path)
        return call.go()

    with syscalls.bent(note):
        store.push(str(staged), "run/file", XXH3, link=True)
        store.pull("run/file", str(tmp_path / "back"), XXH3, link=True)
    assert staged.samefile(tmp_path / "store/run/file")
    assert staged.samefile(tmp_path / "back")
    assert staged.stat().st_nlink == 3
    assert written == []


def test_what_is_linked_is_flushed_and_read_from_the_disk_before_it_has_its_name(store, staged, tmp_path):
    order: list[str] = []

    def note(call: syscalls.Call):
        if call.name in {"link", "fsync", "posix_fadvise", "read"} and call.path != str(tmp_path / "store/run"):
            order.append(call.name)
        return call.go()

    store.create("run/before", b"")  # makes the folders
    with syscalls.bent(note):
        store.push(str(staged), "run/file", XXH3, link=True)
    assert order == ["link", "fsync", "posix_fadvise", "read", "read", "link"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL])
def test_what_cannot_be_linked_is_copied(store, staged, tmp_path, code):
    with syscalls.bent(without_links(code)):
        measured = store.push(str(staged), "run/file", XXH3, link=True)
        assert store.pull("run/file", str(tmp_path / "back"), XXH3, link=True) == measured
    assert measured.digest == digest_of([staged.read_bytes()], XXH3)
    assert staged.stat().st_nlink == 1
    assert (tmp_path / "back").stat().st_nlink == 1


def test_a_link_that_was_made_although_the_call_failed_is_not_written_into(store, staged, tmp_path):
    body = staged.read_bytes()

    def made_and_failed(call: syscalls.Call):
        result = call.go()
        if call.name == "link" and ".tmp-" not in str(call.args[0]):
            raise OSError(errno.EIO, "the answer was lost", call.path)
        return result

    with syscalls.bent(made_and_failed):
        store.push(str(staged), "run/file", XXH3, link=True)
        store.pull("run/file", str(tmp_path / "back"), XXH3, link=True)
    assert staged.read_bytes() == store.read("run/file") == (tmp_path / "back").read_bytes() == body


def test_a_symbolic_link_is_followed_and_its_file_copied(store, staged, tmp_path):
    (tmp_path / "name").symlink_to(staged)
    store.push(str(tmp_path / "name"), "run/file", XXH3, link=True)
    there = tmp_path / "store/run/file"
    assert not there.is_symlink()
    assert not there.samefile(staged)
    assert there.read_bytes() == staged.read_bytes()


def test_a_file_that_goes_away_from_the_store_while_it_is_linked_is_still_brought(store, staged, tmp_path):
    store.push(str(staged), "run/file", XXH3, link=True)

    def vanishing(call: syscalls.Call):
        if call.name == "link":
            (tmp_path / "store/run/file").unlink()
        return call.go()

    with syscalls.bent(vanishing):
        store.pull("run/file", str(tmp_path / "back"), XXH3, link=True)
    assert (tmp_path / "back").read_bytes() == staged.read_bytes()
    with pytest.raises(Missing):
        store.pull("run/file", str(tmp_path / "back"), XXH3, link=True)


def test_a_link_is_refused_where_the_name_is_taken_and_leaves_nothing(store, staged, tmp_path):
    store.create("run/file", b"first")
    with pytest.raises(Taken):
        store.push(str(staged), "run/file", XXH3, link=True)
    assert store.read("run/file") == b"first"
    assert staged.stat().st_nlink == 1
    assert [path.name for path in (tmp_path / "store/run").iterdir()] == ["file"]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK], ids=["a pipe", "a socket"])
def test_what_is_no_file_and_no_folder_is_not_there_and_keeps_nobody_waiting(store, tmp_path, kind):
    store.create("run/file", b"x")
    os.mknod(tmp_path / "store/run/pipe", kind | 0o600)
    (tmp_path / "store/run/link").symlink_to("pipe")
    assert [entry.name for entry in store.list("run")] == ["file"]
    for name in ("pipe", "link"):
        with pytest.raises(Missing):
            store.read(f"run/{name}")
        with pytest.raises(Missing):
            store.pull(f"run/{name}", str(tmp_path / "copy"), XXH3)


def test_a_device_is_no_file_either(store, tmp_path):
    store.create("run/file", b"x")
    (tmp_path / "store/run/endless").symlink_to("/dev/zero")
    assert [entry.name for entry in store.list("run")] == ["file"]
    with pytest.raises(Missing):
        store.read("run/endless")


def test_a_file_that_cannot_be_looked_at_is_closed(store):
    store.create("run/file", b"x")
    opened: dict[int, str] = {}

    def no_look(call: syscalls.Call):
        if call.name == "fstat":
            raise OSError(errno.EIO, "Input/output error", call.path)
        result = call.go()
        if call.name == "open":
            opened[result] = call.path
        elif call.name == "close":
            opened.pop(call.args[0], None)
        return result

    with syscalls.bent(no_look), pytest.raises(StoreError):
        store.read("run/file")
    assert opened == {}
