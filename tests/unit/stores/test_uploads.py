"""What drives' clients say about uploads, and that anything else than their clear word is no evidence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.ports import StoreError, Unconfirmed
from supervisor.stores import rclone, uploads
from supervisor.stores.mounts import Mount
from supervisor.stores.rclone import Rclone, seconds, server_of
from supervisor.stores.uploads import DriveFS, NoWord, Written, choose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DRIVE = Mount(2, 1, "0:9", "/", "/content/drive", "fuse.drive", "drive")
MD5 = hashlib.md5(b"weights").hexdigest()


@pytest.fixture
def file(tmp_path) -> Iterator[Written]:
    """A file that can bear attributes as those of a drive do."""
    path = tmp_path / "file"
    path.write_bytes(b"weights")
    fd = os.open(path, os.O_RDONLY)
    try:
        os.setxattr(fd, "user.drive.probe", b"")
    except OSError as error:
        os.close(fd)
        pytest.skip(f"no user attributes on this file system: {error}")
    yield Written(fd, "run/file", 7, confirmed=False, chunks=lambda: [path.read_bytes()])
    os.close(fd)


@pytest.fixture
def root(tmp_path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def say(file: Written, **attributes: str) -> None:
    for name, value in attributes.items():
        os.setxattr(file.fd, f"user.drive.{name}", value.encode())


def test_drive_s_word_is_that_nothing_is_uncommitted_and_the_file_has_a_cloud_id(file, root):
    say(file, uncommitted="0", id="1AbC")
    assert DriveFS(root).see(file) == "drivefs"


@pytest.mark.parametrize(
    "attributes",
    [
        {"uncommitted": "1", "id": "1AbC"},
        {"uncommitted": "0", "id": "local-17"},
        {"uncommitted": "", "id": "1AbC"},
        {"uncommitted": "0", "id": ""},
    ],
)
def test_anything_less_is_not_yet_one(file, root, attributes):
    say(file, **attributes)
    with pytest.raises(Unconfirmed) as answer:
        DriveFS(root).see(file)
    assert answer.value.possible


def test_a_client_that_never_answers_gives_no_evidence_ever(file, root):
    with pytest.raises(Unconfirmed) as answer:
        DriveFS(root).see(file)
    assert not answer.value.possible


def test_a_client_that_answered_once_may_still_do_so_for_this_file(file, root):
    client = DriveFS(root)
    say(file, uncommitted="0", id="1AbC")
    client.see(file)
    os.removexattr(file.fd, "user.drive.uncommitted")
    with pytest.raises(Unconfirmed) as answer:
        client.see(file)
    assert answer.value.possible


@pytest.mark.parametrize("told", [{"id": "1AbC"}, {"uncommitted": "0"}])
def test_a_client_that_tells_only_half_gives_no_evidence_ever_so_nobody_waits_for_it(file, root, told):
    say(file, **told)
    with pytest.raises(Unconfirmed) as answer:
        DriveFS(root).see(file)
    assert not answer.value.possible


@pytest.mark.parametrize("md5", [MD5, MD5.upper(), "", "unknown"])
def test_a_digest_of_the_cloud_that_is_the_file_s_own_or_none_is_fine(file, root, md5):
    say(file, uncommitted="0", id="1AbC", md5=md5)
    assert DriveFS(root).see(file) == "drivefs"


def test_a_digest_of_the_cloud_that_is_another_is_a_lie(file, root):
    say(file, uncommitted="0", id="1AbC", md5="0" * 32)
    with pytest.raises(StoreError) as failed:
        DriveFS(root).see(file)
    assert failed.value.kind == "lied"


def test_a_drive_that_cannot_be_asked_has_not_answered(file, root, monkeypatch):
    def dead(*_: object) -> bytes:
        raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(uploads.os, "getxattr", dead)
    with pytest.raises(OSError, match="not connected"):
        DriveFS(root).see(file)


def test_who_can_tell_is_chosen_by_the_kind_of_mount_or_by_who_answers(file, root):
    other = Mount(2, 1, "0:9", "/", "/mnt", "fuse.other", "other")
    assert isinstance(choose(DRIVE, root), DriveFS)
    assert isinstance(choose(other, root), NoWord)
    os.setxattr(root, "user.drive.id", b"root")
    assert isinstance(choose(other, root), DriveFS)


def test_nobody_s_word_is_never_evidence(file):
    with pytest.raises(Unconfirmed) as answer:
        NoWord().see(file)
    assert not answer.value.possible


class Machine:
    """The traces of an rclone mount: its process, and the records in its cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, folder / "proc"
        self.mount = Mount(2, 1, "0:9", "/", str(folder / "M"), "fuse.rclone", "g:backup")
        self.processes.mkdir()

    def runs(self, *options: str, pid: int = 7, point: str = "M", **environ: str) -> None:
        process = self.processes / str(pid)
        process.mkdir()
        (process / "cmdline").write_bytes("\0".join(["/usr/bin/rclone", "mount", "g:backup", point, *options]).encode())
        (process / "environ").write_bytes("\0".join(f"{name}={value}" for name, value in environ.items()).encode())
        (process / "cwd").symlink_to(self.folder)

    def records(self, text: str | None = None, *, remote: str = "g/backup", **record: object) -> None:
        path = self.folder / "C/vfsMeta" / remote / "run/file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record) if text is None else text, "utf-8")

    def see(self, *, confirmed: bool = False) -> str:
        return Rclone(self.mount).see(Written(-1, "run/file", 7, confirmed, lambda: ()))


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    machine = Machine(tmp_path)
    find = rclone.server_of
    monkeypatch.setattr(rclone, "server_of", lambda mount: find(mount, str(machine.processes)))
    return machine


WRITES = ("--vfs-cache-mode", "writes", "--cache-dir", "C")
CLEAN = {"Dirty": False, "Fingerprint": "7,today", "Size": 7}


def test_rclone_s_word_is_a_clean_record_with_the_remote_s_word_in_it(machine):
    machine.runs(*WRITES)
    machine.records(**CLEAN)
    assert machine.see() == "rclone"


@pytest.mark.parametrize(
    "record", [{**CLEAN, "Dirty": True}, {**CLEAN, "Fingerprint": ""}, {**CLEAN, "Size": 6}, {}, {"text": '{"Dir'}]
)
def test_a_record_that_says_less_or_is_half_written_says_not_yet(machine, record):
    machine.runs(*WRITES)
    machine.records(**record)
    with pytest.raises(Unconfirmed) as answer:
        machine.see(confirmed=True)
    assert answer.value.possible


def test_a_record_that_is_gone_is_fine_only_if_the_file_was_seen_clean(machine):
    machine.runs(*WRITES)
    with pytest.raises(Unconfirmed) as answer:
        machine.see()
    assert not answer.value.possible
    assert machine.see(confirmed=True) == "rclone"


@pytest.mark.parametrize("mode", [(), ("--vfs-cache-mode", "off"), ("--vfs-cache-mode=minimal",)])
def test_an_rclone_that_sends_while_it_is_written_needs_no_records(machine, mode):
    machine.runs("--cache-dir", "C", *mode)
    assert machine.see() == "rclone"


def test_a_mount_whose_rclone_cannot_be_found_gives_no_evidence(machine):
    machine.runs(*WRITES, point="elsewhere")
    with pytest.raises(Unconfirmed) as answer:
        machine.see()
    assert not answer.value.possible


def test_records_of_a_folder_on_this_machine_lie_under_local_and_all_of_them_must_be_clean(machine):
    machine.mount = Mount(2, 1, "0:9", "/", machine.mount.point, "fuse.rclone", "/backup")
    machine.runs(*WRITES)
    machine.records(remote="local{12rtk}/backup", **CLEAN)
    assert machine.see() == "rclone"
    machine.records(remote="local/backup", **{**CLEAN, "Dirty": True})
    with pytest.raises(Unconfirmed):
        machine.see()


def test_a_bind_mount_of_a_folder_of_the_drive_is_told_from_its_root(machine):
    machine.mount = Mount(2, 1, "0:9", "/deep", machine.mount.point, "fuse.rclone", "g:backup")
    machine.runs(*WRITES)
    machine.records(remote="g/backup/deep", **CLEAN)
    assert machine.see() == "rclone"


@pytest.mark.parametrize(
    ("options", "environ", "cache"),
    [
        (("--cache-dir=/x",), {}, "/x"),
        ((), {"RCLONE_CACHE_DIR": "/y"}, "/y"),
        ((), {"XDG_CACHE_HOME": "/xdg"}, "/xdg/rclone"),
        ((), {"HOME": "/home/me"}, "/home/me/.cache/rclone"),
    ],
)
def test_the_cache_is_where_rclone_s_options_or_its_variables_say(machine, options, environ, cache):
    machine.runs(*options, **environ)
    assert server_of(machine.mount, str(machine.processes)).cache == cache


def test_of_several_rclones_at_one_point_the_youngest_serves(machine):
    machine.runs("--vfs-cache-mode", "off", pid=7)
    machine.runs("--vfs-cache-mode", "full", pid=70)
    assert server_of(machine.mount, str(machine.processes)).cache_mode == "full"


@pytest.mark.parametrize(
    ("told", "meant"), [("5m0s", 300.0), ("90", 90.0), ("1h30m", 5400.0), ("100ms", 0.1), ("off", None), ("", None)]
)
def test_durations_are_read_as_rclone_writes_them(told, meant):
    assert seconds(told) == meant
