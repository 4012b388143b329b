"""drive.mount as google.colab has it: the same checks in the same order, the same words; below it is a fake DriveFS."""

import os
import subprocess
import sys
import time
from pathlib import Path

from google.colab import _message

__all__ = ["flush_and_unmount", "mount"]
WAIT_S_MAX = 400.0


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    """Mount your Google Drive at the specified mountpoint path."""
    told = _message.switches()
    if not told["hostname"]:  # /var/colab/hostname, which only Colab's own machines have
        raise NotImplementedError("Mounting drive is unsupported in this environment. Use PyDrive2 instead.")
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    if os.environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE":
        raise NotImplementedError("google.colab.drive.mount is not supported in Colab Enterprise.")
    assert os.environ["TBE_EPHEM_CREDS_ADDR"]  # KeyError on a machine that was not told where to ask
    consent = _message.blocking_request(
        "request_auth", request={"authType": "dfs_ephemeral"}, timeout_sec=int(timeout_ms / 1000)
    )
    if Path(mountpoint, "My Drive").is_dir() and not force_remount:
        print(f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, call "
              f'drive.mount("{mountpoint}", force_remount=True).')  # fmt: skip
        return
    subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True)
    _look_at(mountpoint)
    ends = told["ends"]
    end = ends.pop(0) if len(ends) > 1 else ends[0]
    _message.switches(ends=ends)
    if end != "mounted" or consent is None:
        raise _failure("mount failed" if consent is None else end)
    _start(mountpoint, told["drive"])
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms=24 * 60 * 60 * 1000):
    """Unmount Google Drive and flush any outstanding writes to it."""
    if b"type fuse.drive" not in subprocess.check_output(["/bin/mount"]):
        print("Drive not mounted, so nothing to flush and unmount.")
        return
    raise ValueError("flush_and_unmount failed")


def _look_at(mountpoint):
    place = Path(mountpoint)
    if place.is_symlink():
        raise ValueError("Mountpoint must not be a symlink")
    if place.is_dir() and list(place.iterdir()):
        raise ValueError("Mountpoint must not already contain files")
    if place.is_file():
        raise ValueError("Mountpoint must either be a directory or not exist")
    if not place.parent.is_dir():
        raise ValueError("Mountpoint must be in a directory that exists")


def _failure(end):
    if end == "root":
        return ValueError("mount failed: timeout during initial read of root folder; for more info: see the FAQ")
    if end == "domain":
        return ValueError("The domain policy has disabled Drive File Stream: ask your administrator")
    if end == "pexpect":
        return type("TIMEOUT", (Exception,), {"__module__": "pexpect.exceptions"})("Timeout exceeded.")
    return ValueError(end)


def _start(mountpoint, drive):
    """Start the program that serves the mount; it outlives the kernel, as DriveFS does."""
    Path(mountpoint).mkdir(exist_ok=True)
    subprocess.Popen(
        [sys.executable, "-m", "tests.drives.drivefs", mountpoint, drive["cloud"], drive["cache"], drive["control"], "0"],
        cwd=drive["root"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    end_s = time.perf_counter() + WAIT_S_MAX
    while not list(Path(mountpoint).iterdir()):
        if time.perf_counter() > end_s:
            raise ValueError("mount failed")
        time.sleep(0.05)  # because another process mounts it; google.colab looks every half second
