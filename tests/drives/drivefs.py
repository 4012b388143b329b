"""The fake DriveFS process: a FUSE file system ``type fuse.drive`` over a cache and a cloud, and a socket with its switches."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socketserver
import stat
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mfusepy import FUSE, Operations

from tests.drives.drivefs_cloud import Cloud, Machine, matches

IDLE_S = 0.01
DAY_S = 86_400
WRITING = os.O_WRONLY | os.O_RDWR


class DriveFS(Operations):
    """What the kernel asks. Whatever is written is taken at once, and uploaded when the uploader comes to it."""

    use_ns = True

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.released = threading.Condition()
        self.counts: Counter[str] = Counter()
        self._writing: dict[int, str] = {}
        self._unreadable: set[int] = set()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        with self._operation("stat", path):
            seen = os.lstat(self._find(path))
            # their times mean nothing: days off, and another for each name
            wrong_s = int.from_bytes(hashlib.sha256(path.encode()).digest()[:2], "big") * 60 - 20 * DAY_S
            at = seen.st_mtime_ns + wrong_s * 10**9
            mode = stat.S_IFDIR | 0o700 if stat.S_ISDIR(seen.st_mode) else stat.S_IFREG | 0o600
            own = {"st_mode": mode, "st_mtime": at, "st_ctime": at, "st_atime": at, "st_nlink": 1}
            return {**own, "st_size": seen.st_size, "st_uid": os.getuid(), "st_gid": os.getgid()}

    def readdir(self, path: str, fh: int) -> list[str]:
        with self._operation("list", path):
            return [".", "..", *self.machine.names(path)]

    def mkdir(self, path: str, mode: int) -> int:
        with self._operation("create", path, writes=True):
            self.machine.mkdir(path)
        return 0

    def rmdir(self, path: str) -> int:
        with self._operation("delete", path):
            if self.machine.names(path):
                raise OSError(errno.ENOTEMPTY, "not empty")
            self.machine.remove(path)
        return 0

    def unlink(self, path: str) -> int:
        with self._operation("delete", path):
            self._find(path)
            self.machine.remove(path)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        with self._operation("create", path, writes=True):
            return self._opened(path, os.O_RDWR)

    def open(self, path: str, flags: int) -> int:
        with self._operation("open", path):
            found = self._find(path)
            if flags & WRITING:
                return self._opened(path, os.O_RDWR | flags & os.O_TRUNC)  # the kernel leaves the truncation to us
            fd = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
            errors = self.machine.switches["read_errors"]
            for pattern in [each for each, times in errors.items() if times and matches(each, path)]:
                errors[pattern] -= errors[pattern] > 0
                self._unreadable.add(fd)
            return fd

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._operation("read", path):
            if fh in self._unreadable:
                raise OSError(errno.EIO, "download quota")
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._operation("write", path, writes=True):
            self.machine.touch(path)
            return os.pwrite(fh, data, offset)  # ENOSPC when the disk of the cache is full

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._operation("truncate", path):
            os.truncate(self.machine.mutable(path, empty=not length), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._operation("sync", path):
            return 0  # it does not wait for the upload

    def flush(self, path: str, fh: int) -> int:
        with self._operation("sync", path):
            return 0

    def release(self, path: str, fh: int) -> int:
        with self.machine.lock:
            self._unreadable.discard(fh)
            name = self._writing.pop(fh, None)
            if name is not None:
                self.machine.writers[name] -= 1
        os.close(fh)
        return 0

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        with self._operation("xattr", path):
            found, machine = self._find(path), self.machine
            if name == "user.drive.uncommitted":
                return b"1" if machine.uncommitted(path) else b"0"
            if name == "user.drive.id":
                return machine.id(path).encode()
            if name == "user.drive.md5" and machine.switches["md5"] and not machine.uncommitted(path):
                return hashlib.md5(found.read_bytes(), usedforsecurity=False).hexdigest().encode()
            raise OSError(errno.ENODATA, "no such attribute")

    def listxattr(self, path: str) -> list[str]:
        return []  # they are there by name only

    def statfs(self, path: str) -> dict[str, int]:
        with self._operation("free", path):
            disk = os.statvfs(self.machine.tree)  # what Colab shows is the machine's disk, not the quota
            return {key: getattr(disk, key) for key in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    def _opened(self, path: str, flags: int) -> int:
        fd = os.open(self.machine.mutable(path, empty=bool(flags & os.O_TRUNC)), flags | os.O_CLOEXEC)
        self._writing[fd] = path
        self.machine.writers[path] = self.machine.writers.get(path, 0) + 1
        return fd

    def _find(self, path: str) -> Path:
        found = self.machine.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        return found

    def _operation(self, kind: str, path: str, *, writes: bool = False) -> threading.RLock:
        """Count it, hang if told so, fail if told so; then it has the machine for itself."""
        self.counts[kind] += 1
        with self.released:
            self.released.wait_for(lambda: not self._hangs(kind, path))
        error = self.machine.switches["write_error"]
        if writes and error:
            raise OSError(getattr(errno, error), "over quota")
        return self.machine.lock

    def _hangs(self, kind: str, path: str) -> bool:
        for wanted in self.machine.switches["hang"]:
            meant, _, pattern = wanted.partition(":")
            if meant in {kind, "all"} and matches(pattern or "*", path):
                return True
        return False


class Control(socketserver.StreamRequestHandler):
    """One JSON line asks or sets, one JSON line answers."""

    def handle(self) -> None:
        drive: DriveFS = self.server.drive
        asked = json.loads(self.rfile.readline())
        machine = drive.machine
        with machine.lock:
            for key, value in asked.items():
                assert key in machine.switches, key
                machine.switches[key] = value
            answer = {
                "switches": machine.switches, "counts": drive.counts, "pending": machine.pending(),
                "used_bytes": machine.cloud.used_bytes(),
            }  # fmt: skip
        with drive.released:
            drive.released.notify_all()
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def main(mountpoint: str, cloud: str, cache: str, control: str, seed: str) -> None:
    """Serve the mount until it is unmounted or this process is killed."""
    machine = Machine(Cloud(Path(cloud)), Path(cache), int(seed))
    machine.cloud.make("/MyDrive")
    machine.own.add("/MyDrive")
    drive = DriveFS(machine)
    server = socketserver.ThreadingUnixStreamServer(f"\0{control}", Control)
    server.drive = drive
    for work in (server.serve_forever, lambda: _upload(machine)):
        threading.Thread(target=work, daemon=True).start()
    FUSE(drive, mountpoint, foreground=True, fsname="drive", subtype="drive", hard_remove=True, attr_timeout=0,
         entry_timeout=0, negative_timeout=0, max_threads=64)  # fmt: skip


def _upload(machine: Machine) -> None:
    while True:
        if not machine.upload_one():
            time.sleep(IDLE_S)  # because there was nothing to upload


if __name__ == "__main__":
    main(*sys.argv[1:])
