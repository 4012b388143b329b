"""A mounted drive under test: a process of its own that can be stopped, killed, unmounted, replaced and mounted again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machines import until

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 400.0


class Drive:
    """``mountpoint`` shows what lies in ``cloud``, through ``cache``; ``type`` is what the mount table calls it."""

    type = ""

    def __init__(self, folder: Path, guard: Guard, *, cloud: Path | None = None) -> None:
        self.mountpoint, self.cache, self.cloud = folder / "mount", folder / "cache", cloud or folder / "cloud"
        self.log = folder / "drive.log"
        for each in (self.mountpoint, self.cache, self.cloud):
            each.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._guard = guard

    @property
    def root(self) -> Path:
        """Where people put their files on this drive."""
        return self.mountpoint

    @property
    def uploaded(self) -> Path:
        """The same place as it lies in the cloud: whole files only, what is not uploaded is not there."""
        return self.cloud

    def command(self) -> Sequence[str]:
        """Return the command line of the process that serves the mount."""
        raise NotImplementedError

    def mount(self) -> None:
        """Mount it, as a fresh machine would; what an earlier process left is ended first."""
        self.kill()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._guard.watch(self.process.pid, self.mountpoint)
        until(lambda: self.mounted or self.process.poll() is not None)
        assert self.mounted, self.log.read_text("utf-8", "replace")

    @property
    def mounted(self) -> bool:
        """Whether the mount table has it; the mount itself is not asked, because it may hang."""
        return mount_type(self.mountpoint) == self.type

    def stop(self) -> None:
        """Make every operation hang, like a drive whose network is gone."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        until(lambda: stopped(self.process.pid))  # because until then its threads still answer

    def go(self) -> None:
        """End the hang."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def die(self) -> None:
        """Kill -9 the process and leave the dead mount there: "Transport endpoint is not connected"."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def detach(self) -> None:
        """Unmount lazily, which the process survives; whoever holds a descriptor goes on seeing the drive."""
        while mount_type(self.mountpoint):
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=True)

    def kill(self) -> None:
        """Kill -9 and unmount: what lies at the mountpoint now is the plain empty folder below it."""
        self.detach()
        self.die()

    def kill_at_rest(self) -> None:
        """Kill -9 and unmount at a moment at which it is writing nothing of its own."""
        self.kill()

    def wipe_cache(self) -> None:
        """Lose what was not uploaded, as a machine that is taken away does."""
        for each in self.cache.iterdir():
            shutil.rmtree(each)

    def reclaim(self) -> None:
        """Take the whole machine away: the process, the mount and the cache."""
        self.kill()
        self.wipe_cache()

    @property
    def below(self) -> list[Path]:
        """What lies in the plain folder that the mount hides; only to be asked while nothing is mounted."""
        assert not mount_type(self.mountpoint)
        return list(self.mountpoint.rglob("*"))


class Guard:
    """A process that outlives a killed test run just long enough to leave no mounts and no drive processes behind."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).with_name("guard.py"))],
            stdin=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def watch(self, pid: int, mountpoint: Path) -> None:
        """Remember what to kill and unmount."""
        self._tell(f"{pid} {mountpoint}")

    def end(self) -> None:
        """Clean up now, although forked processes of this one may have the pipe open still."""
        self._tell("")
        self.process.stdin.close()
        self.process.wait(WAIT_S_MAX)

    def _tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


class Disk:
    """A small disk in memory, mounted over a folder: a full one is what a test wants."""

    def __init__(self, folder: Path, size_bytes: int, guard: Guard) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        guard.watch(0, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)

    def fill(self) -> Path:
        """Take all the room that is left, also what somebody else frees meanwhile; return what takes it."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for chunk_bytes in (1_000_000, 4096):
                with contextlib.suppress(OSError):
                    while file.write(bytes(chunk_bytes)):
                        continue
        return ballast

    def end(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


def mount_type(folder: Path) -> str:
    """Return what the mount table has at a folder, "" if nothing. The folder itself is not touched."""
    found = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        if before.split()[4] == str(folder):
            found = after.split()[0]
    return found


def stopped(pid: int) -> bool:
    """Whether a signal has stopped every thread of a process."""
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may have ended just now
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return set(states) == {"T"}
