"""What the drives under test are like: each law a sentence, on the fake Drive and, where it is true there, on rclone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from tests.drives.drive import ROOT, WAIT_S_MAX, Drive, Guard, mount_type
from tests.drives.fake_drive import FakeDrive
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
BODY = bytes(range(256)) * 4000
HANGS_S = 0.3  # that long without an answer is a hang in these tests


@pytest.fixture(params=[FakeDrive, RcloneDrive], ids=["fake", "rclone"])
def drive(request: pytest.FixtureRequest, new_drive: Callable[..., Drive]) -> Drive:
    return new_drive(request.param)


@pytest.fixture(params=["fake", "rclone"])
def slow_drive(request: pytest.FixtureRequest, new_drive: Callable[..., Drive]) -> Drive:
    """One that uploads nothing for an hour, or until it is mounted again after ``go_faster``."""
    if request.param == "fake":
        return new_drive(FakeDrive, uploads=False)
    return new_drive(RcloneDrive, write_back="1h")


def go_faster(drive: Drive) -> None:
    if isinstance(drive, FakeDrive):
        drive.switches["uploads"] = True
    else:
        drive.write_back = "100ms"


def test_what_is_written_reads_back_at_once_and_is_in_the_cloud_whole_later(drive: Drive) -> None:
    (drive.root / "a").mkdir()
    (drive.root / "a" / "x").write_bytes(BODY)
    assert (drive.root / "a" / "x").read_bytes() == BODY
    until(lambda: has(drive.uploaded / "a" / "x", BODY))
    assert (drive.root / "a" / "x").read_bytes() == BODY


def test_a_flush_does_not_wait_for_the_upload(slow_drive: Drive) -> None:
    with (slow_drive.root / "x").open("wb") as file:
        file.write(BODY)
        os.fsync(file.fileno())
    assert (slow_drive.root / "x").read_bytes() == BODY
    assert not (slow_drive.uploaded / "x").exists()


def test_a_machine_taken_away_takes_what_was_not_uploaded_with_it(slow_drive: Drive) -> None:
    (slow_drive.root / "x").write_bytes(BODY)
    slow_drive.reclaim()
    slow_drive.mount()
    with pytest.raises(FileNotFoundError):
        (slow_drive.root / "x").read_bytes()


def test_a_drive_process_that_comes_back_to_its_cache_uploads_the_rest(slow_drive: Drive) -> None:
    (slow_drive.root / "x").write_bytes(BODY)
    slow_drive.kill_at_rest()
    assert not (slow_drive.uploaded / "x").exists()
    go_faster(slow_drive)
    slow_drive.mount()
    until(lambda: has(slow_drive.uploaded / "x", BODY))


def test_a_dead_mount_looks_as_if_nothing_were_there(drive: Drive) -> None:
    (drive.root / "x").write_bytes(BODY)
    drive.die()
    assert drive.mounted  # says the mount table
    assert not os.path.exists(drive.root / "x")  # noqa: PTH110, TID251, because its lie is what is shown
    assert not os.path.ismount(drive.mountpoint)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        list(drive.mountpoint.iterdir())
    drive.mount()
    assert list(drive.root.iterdir()) in [[], [drive.root / "x"]]


def test_a_mount_unmounted_lazily_leaves_a_plain_folder_and_lives_on_in_who_holds_it(drive: Drive) -> None:
    held = os.open(drive.root, os.O_RDONLY | os.O_DIRECTORY)
    drive.detach()
    assert drive.below == []
    fd = os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=held)
    os.write(fd, BODY)
    os.close(fd)
    assert drive.below == []
    until(lambda: has(drive.uploaded / "x", BODY))
    os.close(held)


def test_a_stopped_drive_hangs_and_goes_on(drive: Drive) -> None:
    drive.stop()
    looking = threading.Thread(target=(drive.root / "nothing").exists)
    looking.start()
    looking.join(HANGS_S)
    assert looking.is_alive()
    assert drive.mounted
    drive.go()
    looking.join(WAIT_S_MAX)
    assert not looking.is_alive()


@pytest.mark.parametrize("kind", [FakeDrive, RcloneDrive], ids=["fake", "rclone"])
def test_a_full_cache_disk_fails_a_write_or_hangs_it(new_drive, new_disk, kind) -> None:
    disk = new_disk(4_000_000, "drive-1/cache")
    drive = new_drive(kind)
    disk.fill()
    script = f"import sys; open(sys.argv[1], 'wb').write(bytes({len(BODY)}))"
    with subprocess.Popen([sys.executable, "-c", script, drive.root / "x"], stderr=subprocess.DEVNULL) as writer:
        try:
            assert writer.wait(WAIT_S_MAX if kind is FakeDrive else 1) != 0
        except subprocess.TimeoutExpired:
            assert kind is RcloneDrive  # it waits for room, and who waits for it cannot even be killed
        drive.kill()
        writer.kill()
    assert not has(drive.uploaded / "x", BODY)


def test_a_full_cloud_behind_rclone_is_a_silent_quota(new_drive, new_disk) -> None:
    drive = new_drive(RcloneDrive, cloud=new_disk(500_000).folder, write_back="100ms")
    (drive.root / "x").write_bytes(BODY)
    until(lambda: "will retry" in drive.log.read_text())
    assert (drive.root / "x").read_bytes() == BODY
    assert (drive.uploaded / "x").stat().st_size < len(BODY)  # and others may see an empty one


def test_only_the_fake_drive_says_whether_a_file_is_uploaded(fake: FakeDrive, rclone: RcloneDrive) -> None:
    fake.set(uploads=False)
    path = fake.root / "x"
    path.write_bytes(BODY)
    assert evidence(path) == ("1", "local-")
    assert os.listxattr(path) == []
    fake.set(uploads=True)
    fake.drain()
    assert evidence(path) == ("0", "1")
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(path, "user.drive.md5")
    (rclone.root / "x").write_bytes(BODY)
    for name in ("user.drive.uncommitted", "user.drive.id"):
        with pytest.raises(OSError) as unknown:  # noqa: PT011, because which error it is differs
            os.getxattr(rclone.root / "x", name)
        # rclone 1.60 answers EIO, which here too means that it does not know
        assert unknown.value.errno in {errno.EIO, errno.ENODATA, errno.ENOTSUP, errno.ENOSYS}


def test_an_overwritten_file_keeps_its_id_and_says_that_it_is_not_uploaded(fake: FakeDrive) -> None:
    path = fake.root / "x"
    path.write_bytes(BODY)
    fake.drain()
    fake.set(uploads=False)
    path.write_bytes(b"other")
    assert evidence(path) == ("1", "1")
    assert (fake.uploaded / "x").read_bytes() == BODY
    assert path.read_bytes() == b"other"


def test_a_digest_of_the_far_side_is_offered_if_switched_on(fake: FakeDrive) -> None:
    (fake.root / "x").write_bytes(b"abc")
    fake.drain()
    fake.set(md5=True)
    assert os.getxattr(fake.root / "x", "user.drive.md5") == b"900150983cd24fb0d6963f7d28e17f72"


def test_files_arrive_in_any_order(fake: FakeDrive) -> None:
    fake.set(uploads=False)
    names = [f"{number:02d}" for number in range(12)]
    for name in names:
        (fake.root / name).write_bytes(b"x")
    fake.set(uploads=True)
    fake.drain()
    events = (fake.cloud / "events.jsonl").read_text().splitlines()
    arrived = [line.split('"')[3].rpartition("/")[2] for line in events[-len(names) :]]
    assert sorted(arrived) == names
    assert arrived != names


def test_a_slow_upload_is_whole_or_not_there(fake: FakeDrive) -> None:
    fake.set(rate=10_000_000)
    (fake.root / "x").write_bytes(BODY)
    seen = set(until(lambda: sizes_until_whole(fake.uploaded / "x")))
    assert seen == {-1, len(BODY)}


def test_a_new_file_may_be_in_the_cloud_as_an_empty_one_first(new_drive) -> None:
    one = new_drive(FakeDrive, empty_first=True, rate=500_000)
    other = new_drive(FakeDrive, cloud=one.cloud)
    (one.root / "x").write_bytes(BODY)
    assert {0, len(BODY)} <= set(until(lambda: sizes_until_whole(other.root / "x")))


def test_others_see_it_late(new_drive) -> None:
    one = new_drive(FakeDrive)
    other = new_drive(FakeDrive, cloud=one.cloud, stale_s=3600)
    (one.root / "a").mkdir()
    (one.root / "a" / "x").write_bytes(BODY)
    one.drain()
    assert list(other.root.iterdir()) == []
    other.set(stale_s=0.8)
    until(lambda: has(other.root / "a" / "x", BODY))


def test_one_name_twice_shows_as_two(new_drive) -> None:
    one = new_drive(FakeDrive)
    other = new_drive(FakeDrive, cloud=one.cloud, stale_s=60, twin_chance=1.0)
    for drive, body in ((one, b"one"), (other, b"other")):
        (drive.root / "x.json").write_bytes(body)
        drive.drain()
    found = {path.name: path.read_bytes() for path in one.root.iterdir()}
    assert found == {"x.json": b"one", "x (1).json": b"other", "x (2).json": b"other"}


def test_what_is_deleted_counts_against_the_quota_unless_its_emptiness_was_uploaded(fake: FakeDrive) -> None:
    for name in ("plain", "hasty", "patient"):
        (fake.root / name).write_bytes(BODY)
    fake.drain()
    fake.set(uploads=False)
    (fake.root / "plain").unlink()
    os.truncate(fake.root / "hasty", 0)
    (fake.root / "hasty").unlink()
    os.truncate(fake.root / "patient", 0)
    assert list(fake.root.iterdir()) == [fake.root / "patient"]
    fake.set(uploads=True)
    fake.drain()
    (fake.root / "patient").unlink()
    fake.drain()
    assert fake.state()["used_bytes"] == 2 * len(BODY)
    assert sorted(path.stat().st_size for path in fake.trash.iterdir()) == [0, len(BODY), len(BODY)]


def test_over_quota_nothing_is_uploaded_and_nobody_says_so(fake: FakeDrive) -> None:
    fake.set(quota_bytes=len(BODY) + 10)
    (fake.root / "x").write_bytes(BODY)
    fake.drain()
    (fake.root / "y").write_bytes(BODY)
    assert evidence(fake.root / "y") == ("1", "local-")
    (fake.root / "z").write_bytes(b"small")
    until(lambda: has(fake.uploaded / "z", b"small"))
    assert fake.state()["pending"] == ["/MyDrive/y"]
    fake.set(quota_bytes=None)
    fake.drain()


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_loud_quota_refuses_new_files_and_lets_what_is_there_be_read(fake: FakeDrive, error: str) -> None:
    (fake.root / "x").write_bytes(BODY)
    fake.set(write_error=error)
    with pytest.raises(OSError) as refused:  # noqa: PT011, because the number is what counts
        (fake.root / "y").write_bytes(BODY)
    assert refused.value.errno == getattr(errno, error)
    assert (fake.root / "x").read_bytes() == BODY


def test_reads_fail_as_often_as_told(fake: FakeDrive) -> None:
    (fake.root / "x").write_bytes(b"body")
    (fake.root / "y").write_bytes(b"body")
    fake.set(read_errors={"x": 2})
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            (fake.root / "x").read_bytes()
    assert (fake.root / "x").read_bytes() == (fake.root / "y").read_bytes() == b"body"


def test_chosen_operations_hang_not_even_killed_until_they_are_released(fake: FakeDrive) -> None:
    (fake.root / "x").write_bytes(b"body")
    fake.set(hang=["open:*/x"])
    assert (fake.root / "x").stat().st_size == 4
    with subprocess.Popen(["cat", fake.root / "x"], stdout=subprocess.PIPE) as reader:
        until(lambda: fake.state()["counts"].get("open"))
        reader.kill()
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(HANGS_S)
        fake.set(hang=[])
        assert reader.wait(WAIT_S_MAX) == -signal.SIGKILL


def test_times_mean_nothing(fake: FakeDrive) -> None:
    for name in "abcd":
        (fake.root / name).write_bytes(b"x")
    times = [(fake.root / name).stat().st_mtime for name in "abcd"]
    assert max(times) - min(times) > 3600


def test_there_are_no_renames_to_rely_on(fake: FakeDrive) -> None:
    (fake.root / "x").write_bytes(b"x")
    with pytest.raises(OSError):  # noqa: PT011, because any refusal will do
        (fake.root / "x").rename(fake.root / "y")


def test_a_killed_test_leaves_no_mount_and_no_drive_behind(tmp_path: Path, guard: object) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.drives.drive import Guard
from tests.drives.fake_drive import FakeDrive
from tests.drives.rclone_drive import RcloneDrive
guard = Guard()
for kind in (FakeDrive, RcloneDrive):
    drive = kind(Path({str(tmp_path)!r}) / kind.__name__, guard)
    drive.mount()
    print(drive.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    drives = [int(line) for line in done.stdout.split()]
    assert len(drives) == 2
    until(lambda: not any(alive(pid) for pid in drives))
    until(lambda: not any(mount_type(tmp_path / name / "mount") for name in ("FakeDrive", "RcloneDrive")))


def test_a_guard_ends_although_a_forked_process_keeps_its_pipe_open() -> None:
    guard = Guard()
    ends, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(ends, 1)
        os._exit(0)
    try:
        guard.end()
        assert guard.process.returncode == 0
    finally:
        os.close(end)
        os.waitpid(child, 0)
        os.close(ends)


def has(path: Path, body: bytes) -> bool:
    try:
        return path.read_bytes() == body
    except FileNotFoundError:
        return False


def sizes_until_whole(path: Path) -> list[int]:
    """Return all sizes that show until the file is whole; -1 is absent."""
    seen = [-1]
    while seen[-1] != len(BODY):
        try:
            seen.append(path.stat().st_size)
        except FileNotFoundError:
            seen.append(-1)
    return seen


def evidence(path: Path) -> tuple[str, str]:
    uncommitted, given = (os.getxattr(path, f"user.drive.{name}").decode() for name in ("uncommitted", "id"))
    return uncommitted, given[: 6 if given.startswith("local-") else 1]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
