"""Reads ``PID MOUNTPOINT`` lines; at an empty line, or when the writer is dead, kills and unmounts all of them.

The end of the pipe alone is not enough: a forked process of the writer, such as a loader's worker, keeps it open.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys

told = [line.split(maxsplit=1) for line in itertools.takewhile(str.strip, iter(sys.stdin.readline, ""))]
mounted = [line.split()[4] for line in open("/proc/self/mountinfo")]  # noqa: SIM115, PTH123, because it is read at once
for pid, mountpoint in reversed(told):
    # the mountpoint stands in the command line: a process id that was given to another process since is left alone
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline") as command:  # noqa: PTH123
        if int(pid) and mountpoint.strip() in command.read():
            os.killpg(int(pid), signal.SIGKILL)
    for _ in range(mounted.count(mountpoint.strip())):
        subprocess.run(["umount", "-l", mountpoint.strip()], stderr=subprocess.DEVNULL, check=False)
