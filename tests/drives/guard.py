"""Told ``PID MOUNTPOINT`` a line; when whoever tells is gone, however it went, kills and unmounts all of them."""

import contextlib
import os
import signal
import subprocess
import sys

told = [line.split(maxsplit=1) for line in sys.stdin]
mounted = [line.split()[4] for line in open("/proc/self/mountinfo")]  # noqa: SIM115, PTH123, because it is read at once
for pid, mountpoint in reversed(told):
    # the mountpoint stands in the command line: a process id that was given to another process since is left alone
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline") as command:  # noqa: PTH123
        if int(pid) and mountpoint.strip() in command.read():
            os.killpg(int(pid), signal.SIGKILL)
    for _ in range(mounted.count(mountpoint.strip())):
        subprocess.run(["umount", "-l", mountpoint.strip()], stderr=subprocess.DEVNULL, check=False)
