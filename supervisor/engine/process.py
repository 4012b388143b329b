"""The trainer as a child process in a process session of its own: start it, signal its whole group, hear its end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

READ_BYTES = 64 * 1024
OUTPUT_WAIT_S = 5.0
SIGNALS = {"stacks": signal.SIGABRT, "term": signal.SIGTERM, "kill": signal.SIGKILL}
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Listeners:
    """``printed`` gets the output as it comes; ``exited`` the exit status and whether memory ran out, once.

    Before that, ``left`` ends what the trainer's group does not hold: as long as such a process lives, the output has no end.
    """

    printed: Callable[[bytes], None]
    exited: Callable[[int, bool], None]
    left: Callable[[], object] = lambda: None


class TrainerProcess:
    """One attempt. Its group dies with it, so that no data loader of a dead trainer holds the accelerator."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], listeners: Listeners, *, keep_open: Sequence[int] = ()
    ) -> None:
        self._listeners = listeners
        self._kills_before = oom_kills()
        self._ended_by_us = False
        self._child = subprocess.Popen(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(keep_open),
            bufsize=0,
        )
        self.pid = self._child.pid
        with contextlib.suppress(OSError, AttributeError, ValueError):
            # a hung trainer is ended with SIGABRT for its stacks; a core file of its memory would fill the disk
            resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))
        self._reader = Thread(target=self._read, name="output", daemon=True)
        try:
            self._reader.start()
            Thread(target=self._wait, name="waiter", daemon=True).start()
        except RuntimeError:
            os.killpg(self.pid, signal.SIGKILL)  # nobody would hear of its end
            self._child.wait()
            if self._child.stdout is not None:
                self._child.stdout.close()
            raise

    def end(self, how: str) -> None:
        """Send the signal for ``how``: "stacks" and "term" to the trainer, "kill" to its whole group.

        Only the trainer is asked, because data loaders that end first would make it fail before its last save.
        """
        self._ended_by_us = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if how == "kill":
                os.killpg(self.pid, signal.SIGKILL)
            else:
                os.kill(self.pid, SIGNALS[how])

    def _read(self) -> None:
        pipe = self._child.stdout
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while text := os.read(pipe.fileno(), READ_BYTES):
                self._listeners.printed(text)

    def _wait(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # before the pid is given back, because only until then it is certain whose group this is
            os.killpg(self.pid, signal.SIGKILL)
        code = self._child.wait()
        self._listeners.left()
        self._reader.join(OUTPUT_WAIT_S)
        killed = code == -signal.SIGKILL and not self._ended_by_us
        self._listeners.exited(code, killed and oom_kills() > self._kills_before)


def oom_kills(root: Path = CGROUP, proc: Path = Path("/proc")) -> int:
    """Return how many processes of our control group the kernel has killed for want of memory; where none tells, of all.

    What memory others lack on this machine says nothing about us.
    """
    own = [count for path in _own_groups(root, proc) if (count := _count(path)) is not None]
    return sum(own) if own else _count(proc / "vmstat") or 0


def _count(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _own_groups(root: Path, proc: Path) -> list[Path]:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = [root / "memory.events"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" and path.strip("/"):
            groups.append(root / path.strip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            groups.append(root / "memory" / path.strip("/") / "memory.oom_control")
    return groups


def trainer_command(python: str, script: Path, arguments: Sequence[str]) -> list[str]:
    """Return how a script is run: by our runner, which speaks for it until it calls attach()."""
    return [python or sys.executable, "-m", "supervisor.trainer", str(script), *arguments]
