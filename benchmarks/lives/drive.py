"""Machines that mount one rclone drive: each blank, each dead without a word at its time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.lives.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
MOUNT_S_MAX = 10.0
LOOK_EVERY_S = 0.005
MACHINE = (
    "unshare",
    "--pid",
    "--mount",
    "--fork",
    "--kill-child",
    "--mount-proc",
)  # all its processes die with the first
# Another boot, as on another machine: the product would otherwise know from the process table that its predecessor is dead.
IDLE = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && touch "$0.done"; cat; exit'  # cat ends with the benchmark


class CannotMountError(Exception):
    """There can be no rclone drive here; says in words why."""


class Limits(NamedTuple):
    """How the drive behaves: MB a second that leave a machine, how long its client waits before it uploads."""

    upload_mb_s: float = 12.0
    write_back_s: float = 0.1
    dir_cache_s: float = 60.0


def check() -> None:
    """Raise CannotMountError unless a drive can be mounted and a machine be cut off."""
    for tool in ("rclone", "fusermount3", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            raise CannotMountError(
                f"{tool} is not installed: the drive is rclone's (Debian: rclone, fuse3, util-linux)"
            )
    if os.geteuid() != 0:
        raise CannotMountError("not root: mounting, and ending a machine with all its processes at once, need it")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise CannotMountError("/dev/fuse cannot be opened: the container or the kernel offers no FUSE")


class Machine:
    """A blank machine: processes and mounts of its own, a local disk, and the drive at ``mount``, always the same path."""

    def __init__(self, place: Path, far: Path, limits: Limits) -> None:
        self.folder = place / "machine"
        self._log = place / "rclone.txt"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.mount, cache = self.folder / "drive", self.folder / "cache"
        for each in (self.mount, cache, self.folder / "work", self.folder / "local", far):
            each.mkdir(parents=True, exist_ok=True)
        boot = self.folder / "boot"
        boot.write_text(f"{uuid.uuid4()}\n", "ascii")
        self._power = subprocess.Popen(
            [*MACHINE, "bash", "-c", IDLE, str(boot)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._first = self._first_process(boot.with_suffix(".done"))
        self._cloud = Cloud(far, place / "versions", cache)
        self._entered: list[subprocess.Popen[bytes]] = []
        self._mount([
            "rclone", "mount", str(far), str(self.mount), "--vfs-cache-mode", "writes",
            "--vfs-write-back", f"{limits.write_back_s * 1000:.0f}ms", "--dir-cache-time", f"{limits.dir_cache_s * 1000:.0f}ms",
            "--bwlimit", f"{limits.upload_mb_s:g}M", "--cache-dir", str(cache), "--config", "/dev/null",
        ])  # fmt: skip

    def start(self, command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
        """Start the job."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_RUN_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # people's machines keep what Python compiled
        own = {"PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_LOCAL": str(self.folder / "local"), "OMP_NUM_THREADS": "1"}
        return self._enter(command, output, {**kept, **own})

    def die(self) -> list[str]:
        """Lose power: nobody gets to do anything more, and what was not uploaded is gone. Returns what was on its way."""
        os.kill(self._first, signal.SIGKILL)  # the kernel kills all processes of its table with it, and ends its mounts
        for process in (self._power, *self._entered):
            process.wait()
        if self._power.stdin is not None:
            self._power.stdin.close()
        halves = self._cloud.settle()
        shutil.rmtree(self.folder)
        return halves

    def _enter(self, command: Sequence[str], output: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        inside = ["nsenter", "--target", str(self._first), "--pid", "--mount", f"--wd={self.folder / 'work'}", *command]
        with output.open("ab") as file:
            process = subprocess.Popen(
                inside,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._entered.append(process)
        return process

    def _first_process(self, done: Path) -> int:
        end_s = time.perf_counter() + MOUNT_S_MAX
        while not done.exists():
            if self._power.poll() is not None or time.perf_counter() > end_s:
                raise CannotMountError("no machine could be made: does the container allow namespaces?")
            time.sleep(LOOK_EVERY_S)  # because nobody says when it is there
        children = Path(f"/proc/{self._power.pid}/task/{self._power.pid}/children")
        return int(children.read_text("ascii").split()[0])

    def _mount(self, command: Sequence[str]) -> None:
        rclone = self._enter(command, self._log, dict(os.environ))
        end_s = time.perf_counter() + MOUNT_S_MAX
        while f" {self.mount} " not in Path(f"/proc/{self._first}/mountinfo").read_text("utf-8"):
            if rclone.poll() is not None or time.perf_counter() > end_s:
                said = self._log.read_text("utf-8", "replace").strip()[-300:]
                raise CannotMountError(f"rclone did not mount: {said or 'no word from it'}")
            time.sleep(LOOK_EVERY_S)  # because rclone says nothing when it is ready
