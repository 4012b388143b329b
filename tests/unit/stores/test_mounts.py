"""The mount table tells which mount a path lies on, without the path being touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.stores.mounts import drive_of, is_drive, is_mount_point, located, mount_of, mounts
from tests.faults import syscalls

if TYPE_CHECKING:
    from pathlib import Path

COLAB = r"""1 0 0:20 / / rw,relatime - overlay overlay rw
2 1 0:21 / /proc rw - proc proc rw
3 1 0:22 / /content/drive rw,nosuid shared:7 - fuse.drive drive rw,user_id=0
4 1 0:23 / /content/my\040drive rw master:1 shared:2 - fuse.rclone g:a\134b rw
5 1 0:24 / /mnt/usb rw - fuseblk /dev/sda1 rw
6 1 0:25 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
"""


def table(tmp_path: Path, text: str):
    (tmp_path / "mountinfo").write_text(text, "utf-8")
    return mounts(str(tmp_path / "mountinfo"))


def test_a_mount_of_this_machine_is_found_with_the_device_that_its_files_have(tmp_path):
    mount = mount_of(str(tmp_path), mounts())
    assert mount.point != ""
    assert os.path.commonpath([mount.point, tmp_path]) == mount.point
    assert mount_of("/proc/self/mountinfo", mounts()).fstype == "proc"


def test_the_longest_point_on_the_way_is_the_mount_of_a_path_and_names_end_at_a_slash(tmp_path):
    found = table(tmp_path, COLAB)
    assert mount_of("/content/drive/MyDrive/x", found).fstype == "fuse.drive"
    assert mount_of("/content/drive", found).fstype == "fuse.drive"
    assert mount_of("/content/drives/x", found).fstype == "overlay"
    assert mount_of("/content/drive/../x", found).fstype == "overlay"


def test_blanks_and_backslashes_in_names_are_read_as_they_are(tmp_path):
    mount = mount_of("/content/my drive/x", table(tmp_path, COLAB))
    assert (mount.point, mount.source) == ("/content/my drive", "g:a\\b")


def test_drives_are_what_a_process_serves_and_not_disks_and_overlays(tmp_path):
    found = table(tmp_path, COLAB)
    assert [is_drive(each) for each in found] == [False, False, True, True, False, False]
    assert drive_of("/mnt/usb/x", found) is None
    assert drive_of("/content/drive/x", found) is not None


def test_a_fuse_root_is_the_machine_and_not_a_drive(tmp_path):
    assert drive_of("/home", table(tmp_path, "1 0 0:20 / / rw - fuse.whatever x rw\n")) is None


def test_of_stacked_mounts_the_newest_counts(tmp_path):
    text = COLAB + "7 3 0:30 / /content/drive rw - tmpfs tmpfs rw\n"
    assert mount_of("/content/drive/x", table(tmp_path, text)).fstype == "tmpfs"


def test_a_mount_that_a_newer_one_above_covers_is_not_there_any_more(tmp_path):
    text = COLAB + "7 1 0:30 / /content rw - tmpfs tmpfs rw\n"
    assert mount_of("/content/drive/x", table(tmp_path, text)).fstype == "tmpfs"


def test_a_table_without_a_root_and_none_at_all_are_read_too(tmp_path):
    assert mount_of("/a/b", table(tmp_path, "9 8 0:3 / /a rw - fuse.x y rw\n")).fstype == "fuse.x"
    assert mount_of("/b", table(tmp_path, "9 8 0:3 / /a rw - fuse.x y rw\n")) is None
    assert mounts(str(tmp_path / "none")) == ()


def test_links_are_followed_up_to_a_drive(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "M")
    (tmp_path / "relative").symlink_to("link/inside")
    text = f"1 0 0:20 / / rw - ext4 x rw\n2 1 0:21 / {tmp_path}/M rw - fuse.drive drive rw\n"
    found = table(tmp_path, text)
    assert located(f"{tmp_path}/link/a/../b", found)[0] == f"{tmp_path}/M/b"
    assert located(f"{tmp_path}/relative/x", found)[0] == f"{tmp_path}/M/inside/x"
    assert drive_of(f"{tmp_path}/relative/x", found).point == f"{tmp_path}/M"


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert mount_of(str(tmp_path / "a/x"), mounts()) == mount_of(str(tmp_path), mounts())


def test_nothing_on_a_drive_and_not_its_point_is_touched(tmp_path, monkeypatch):
    asked: list[str] = []
    readlink = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: asked.append(os.fspath(path)) or readlink(path))
    text = f"1 0 0:20 / / rw - ext4 x rw\n2 1 0:21 / {tmp_path}/M rw - fuse.drive drive rw\n"
    found = table(tmp_path, text)

    def hang(call: syscalls.Call):
        assert not call.path.startswith(f"{tmp_path}/M"), f"{call.name} would hang"
        return call.go()

    with syscalls.bent(hang):
        assert drive_of(f"{tmp_path}/M/store/run", found) is not None
    assert not [path for path in asked if path.startswith(f"{tmp_path}/M")]


@pytest.mark.parametrize(("path", "expected"), [("/proc", True), ("/proc/self", False), ("/proc/", True)])
def test_a_mount_point_is_told_by_the_table(path, expected):
    assert is_mount_point(path) is expected
