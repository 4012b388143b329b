"""Second machines on one Linux box: namespaces with their own processes, mounts, name and boot, and a drive of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machines import Machine, Turn, until
from tests.drives.drive import stopped
from tests.drives.rclone_drive import RcloneDrive
from tests.machines.groups import Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).resolve().parent
NAMESPACES = ("--mount", "--uts", "--pid", "--net", "--ipc")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
WAIT_S_MAX = 400.0
ENTER = 'for group in $1; do echo 0 > "$group/cgroup.procs"; done; cd "$2"; shift 2; exec "$@"'


@dataclass(frozen=True)
class Sort:
    """What a machine is like: ``stale`` how long its drive believes a listing ("" no drive: the cloud's folder itself),
    ``bwlimit`` how fast it uploads, ``skew_s`` by how much its clock is wrong, ``boots_s`` how long it has been up besides;
    ``container``: it shares the boot of this box and its kernel's name for it, as containers do;
    ``hasty``: the product waits for tenths of seconds there where else it waits for seconds.
    """

    stale: str = "0s"
    bwlimit: str = ""
    write_back: str = "300ms"
    skew_s: float = 0.0
    boots_s: int = 0
    memory_bytes: int = 0
    container: bool = False
    hasty: bool = True


class NamespacedMachine(Machine):
    """A machine of its own: nothing but the cloud's folder is shared with any other. Up as soon as it is made."""

    def __init__(self, folder: Path, cloud: Path, sort: Sort = Sort()) -> None:
        self.sort, self.cloud = sort, cloud
        self.drive = RcloneDrive(
            folder / "drive", None, bwlimit=sort.bwlimit, write_back=sort.write_back, dir_cache_time=sort.stale, cloud=cloud
        )  # fmt: skip
        super().__init__(folder, (self.drive.mountpoint if sort.stale else cloud) / "runs")
        self.turns: list[NamespacedTurn] = []
        self.group = Group(folder.name, memory_bytes=sort.memory_bytes)
        self._times = ("--time",) if sort.boots_s else ()
        self._box = self._up()
        self.first = until(lambda: children(self._box.pid))[0]
        if sort.stale:
            self.mount()

    def mount(self) -> None:
        """Mount the drive inside the machine, where nobody outside sees it; want of memory takes another process."""
        command = self.entered(self.drive.command(), self.group.unlimited)
        with self.drive.log.open("ab") as log:
            self.drive.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: f" {self.drive.mountpoint} " in Path(f"/proc/{self.first}/mountinfo").read_text())

    def entered(self, command: Sequence[str], groups: Sequence[Path] | None = None) -> list[str]:
        """Return the command line that runs a command line inside the machine, in its folder for work."""
        joined = " ".join(map(str, self.group.folders if groups is None else groups))
        enter = ["nsenter", "--target", str(self.first), *NAMESPACES, *self._times]
        return [*enter, "sh", "-c", ENTER, "sh", joined, str(self.work), *command]

    def command(self, *words: str) -> list[str]:
        """Return a whole command line of the product."""
        whole = super().command(*words)
        return [each if each != "supervisor" or not self.sort.hasty else "tests.machines.hasty" for each in whole]

    def environ(self, **more: str) -> dict[str, str]:
        """Return what a process on this machine finds in its environment."""
        environ = super().environ(**more)
        if self.sort.skew_s:
            skewed = os.pathsep.join([str(HERE / "skewed"), environ["PYTHONPATH"]])
            environ |= {"PYTHONPATH": skewed, "MACHINE_SKEW_S": str(self.sort.skew_s)}
        return environ

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product on this machine to its end."""
        return subprocess.run(
            self.entered(self.command(*words)), env=self.environ(**more), capture_output=True, text=True,
            timeout=WAIT_S_MAX, check=False,
        )  # fmt: skip

    def start(
        self, script: Path, *options: str, arguments: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> NamespacedTurn:
        """Start a supervisor on this machine and come back at once."""
        command = self.entered(self.command("start", str(script), *options, "--", *arguments))
        output = self.folder / f"turn-{len(self.turns) + 1}.txt"
        self.turns.append(NamespacedTurn(command, self.work, self.environ(**(environ or {})), output))
        return self.turns[-1]

    def outside(self, path: Path) -> Path:
        """Return where a place on this machine is found from out here, with its own mounts."""
        return Path(f"/proc/{self.first}/root{path}")

    def all_sent(self) -> None:
        """Wait until its drive has uploaded all that was written."""
        until(lambda: not any(b'"Dirty": true' in each or b'"Dirty":true' in each for each in self._records()))

    def pause(self) -> None:
        """Stand still, all processes at once, the drive's too: what a suspended virtual machine does."""
        if self.group.freezes:
            self.group.freeze()
        else:
            self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause: nothing on it has noticed, and what it was about to write is written now."""
        if self.group.freezes:
            self.group.thaw()
        else:
            self._signal_all(signal.SIGCONT)

    def reclaim(self) -> None:
        """Take the machine away: everything on it dies at once, and its disk and what was not uploaded are lost."""
        self.end()
        shutil.rmtree(self.folder)

    def end(self) -> None:
        """Switch it off; its disk stays."""
        if self._box.returncode is not None:
            return  # and its process ids may be those of others by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)  # the first process of a process namespace takes all others with it
        self.group.thaw()
        for turn in self.turns:
            turn.process.send_signal(signal.SIGCONT)  # a stopped one would never bury what it started
        self._box.wait(WAIT_S_MAX)
        for stream in (self._box.stdin, self._box.stdout):
            stream.close()
        for process in filter(None, [self.drive.process, *(turn.process for turn in self.turns)]):
            process.wait(WAIT_S_MAX)
        self.group.end()

    def _up(self) -> subprocess.Popen[str]:
        boot = self.folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        shift = [f"--boottime={self.sort.boots_s}", f"--monotonic={self.sort.boots_s}"] if self._times else []
        spec = json.dumps([self.folder.name, [] if self.sort.container else [[str(boot), BOOT_ID]]])
        log = self.folder / "namespaces.log"
        with log.open("wb") as errors:
            box = subprocess.Popen(
            ["unshare", *NAMESPACES, *self._times, *shift, "--fork", "--kill-child", "--mount-proc", sys.executable,
             "-SEI", str(HERE / "first_process.py"), spec],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
        assert box.stdout.readline() == "up\n", log.read_text()
        return box

    def _records(self) -> list[bytes]:
        found = []
        for path in (self.drive.cache / "vfsMeta").rglob("*"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                found.append(path.read_bytes())
        return found

    def _signal_all(self, number: int) -> None:
        for pid in inhabitants(self.first) - {self.first}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class NamespacedTurn(Turn):
    """One supervisor on a machine of namespaces: ``process`` is only what entered there, and ends as the supervisor does."""

    def supervisor(self) -> int | None:
        """Return the supervisor's process id out here, None once it has ended."""
        return next(iter(children(self.process.pid)), None)

    def trainer(self) -> int | None:
        """Return the trainer's process id out here, if it lives."""
        pid = self.supervisor()
        return (
            next((child for child in children(pid) if b"supervisor.trainer" in words_of(child)), None) if pid else None
        )

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        pid = self.supervisor()
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            until(lambda: stopped(pid))  # because until then it still works
        if number == signal.SIGCONT:
            self.process.send_signal(number)  # because what entered the machine stops when what it started does

    def kill(self, victim: str) -> None:
        """Kill -9 the "trainer", the "supervisor" or "both"; what is gone already is gone."""
        found = {"trainer": self.trainer(), "supervisor": self.supervisor()}
        for name in ("supervisor", "trainer"):
            if victim in {name, "both"} and found[name]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found[name], signal.SIGKILL)
        if victim != "trainer":
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(WAIT_S_MAX)


def missing(*, cgroups: bool = False) -> str:
    """Return why no such machines can be had here, "" if they can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "not root on Linux: these tests make machines of namespaces"
    if tools := [tool for tool in ("unshare", "nsenter", "mount", "rclone", "fusermount3") if not shutil.which(tool)]:
        return f"{', '.join(tools)} not installed: these tests make machines of namespaces with drives"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse here: these tests mount drives"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children, oldest first."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] not in "ZX":
                    found.append((int(fields[19]), int(process.name)))
    return [child for _, child in sorted(found)]


def inhabitants(pid: int) -> set[int]:
    """Return all processes of the process namespace that ``pid`` is in."""
    wanted, found = Path(f"/proc/{pid}/ns/pid").readlink(), set()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if (process / "ns/pid").readlink() == wanted:
                    found.add(int(process.name))
    return found


def words_of(pid: int) -> bytes:
    """Return a process's command line, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
