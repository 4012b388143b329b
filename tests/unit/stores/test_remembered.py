"""A place that was on a mount and is a plain folder now is noticed before anything is written there."""

from __future__ import annotations

import json
import subprocess

import pytest

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.stores.mounts import Mount
from supervisor.stores.remembered import check

ROOT = Mount(1, 0, "8:1", "/", "/", "ext4", "/dev/sda1")


@pytest.fixture
def place(tmp_path):
    """The folder of a store, below the point at which something was mounted."""
    folder = tmp_path / "mnt" / "runs"
    folder.mkdir(parents=True)
    return folder


def mounted(place, kind, source="/dev/sdb1"):
    return Mount(2, 1, "8:2", "/", str(place.parent), kind, source)


KINDS = ("nfs4", "ext4", "exfat", "tmpfs", "btrfs", "cifs", "fuse.rclone", "fuse.mergerfs")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("now", [None, ROOT], ids=["no mount at all", "the disk of the system"])
def test_an_empty_folder_in_the_place_of_any_mount_is_refused_in_two_lines(place, tmp_path, kind, now):
    notes = tmp_path / "notes"
    check(str(place), mounted(place, kind), notes)
    check(str(place), mounted(place, kind), notes)
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            check(str(place), now, notes)
    assert refused.value.exit_code == FAILED_PRECHECKS
    assert refused.value.what.endswith(f"mounted at {place.parent}, and that is not mounted now")
    assert "mount it again and start again" in refused.value.hint
    [note] = notes.iterdir()
    note.unlink()  # as the hint says
    check(str(place), now, notes)


def test_an_absent_folder_is_refused_too(place, tmp_path):
    check(str(place), mounted(place, "ext4"), tmp_path / "notes")
    place.rmdir()
    with pytest.raises(UserError):
        check(str(place), ROOT, tmp_path / "notes")


def test_a_folder_that_has_the_runs_was_copied_there(place, tmp_path):
    check(str(place), mounted(place, "ext4"), tmp_path / "notes")
    (place / "toy").mkdir()
    (place / "toy" / "run.json").write_text("{}")
    check(str(place), ROOT, tmp_path / "notes")


def test_a_drive_that_is_away_is_refused_whatever_the_folder_shows(place, tmp_path):
    check(str(place), mounted(place, "fuse.drive"), tmp_path / "notes")
    (place / "toy").mkdir()
    (place / "toy" / "run.json").write_text("{}")
    with pytest.raises(UserError, match="was on the drive mounted at"):
        check(str(place), ROOT, tmp_path / "notes")


def test_a_note_of_an_older_version_is_one_of_a_drive(place, tmp_path):
    check(str(place), mounted(place, "fuse.drive"), tmp_path / "notes")
    [note] = (tmp_path / "notes").iterdir()
    told = json.loads(note.read_bytes())
    del told["drive"]
    note.write_text(json.dumps(told))
    with pytest.raises(UserError, match="was on the drive"):
        check(str(place), ROOT, tmp_path / "notes")


def test_what_is_mounted_elsewhere_or_deeper_now_is_a_mount_all_the_same(place, tmp_path):
    notes = tmp_path / "notes"
    check(str(place), mounted(place, "nfs4"), notes)
    check(str(place), Mount(3, 1, "0:9", "/", str(place), "nfs4", "server:/runs"), notes)
    check(str(place), Mount(3, 1, "0:9", "/", "/elsewhere", "nfs4", "server:/runs"), notes)


def test_a_place_on_the_disk_of_the_system_leaves_no_note(place, tmp_path):
    check(str(place), ROOT, tmp_path / "notes")
    check(str(place), None, tmp_path / "notes")
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"point": 5}'])
def test_a_damaged_note_stops_nothing_that_is_mounted(place, tmp_path, body):
    notes = tmp_path / "notes"
    check(str(place), mounted(place, "ext4"), notes)
    [note] = notes.iterdir()
    note.write_bytes(body)
    check(str(place), mounted(place, "ext4"), notes)


@pytest.mark.slow
def test_the_next_start_on_this_machine_refuses_when_the_disk_is_not_mounted(place, tmp_path):
    """A real mount, where one can be made."""
    from benchmarks.machines import TOY, Machine

    point = place.parent
    place.rmdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        machine = Machine(tmp_path / "machine", point / "runs")
        first = machine.start(TOY, "--save-every", "1s", arguments=("--steps", "20"))
        assert first.wait() == 0, first.text
    finally:
        subprocess.run(["umount", str(point)], check=True)
    again = machine.start(TOY, arguments=("--steps", "40"))
    assert again.wait() == FAILED_PRECHECKS, again.text
    assert f"was on the disk or folder mounted at {point}, and that is not mounted now" in again.text
    assert not list(point.iterdir())
