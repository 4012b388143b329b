"""Runs a command line and kills it with its process group at a deadline, even when who started it is gone. A script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

LEAVE = "--leave"


def main() -> int:
    """Return the command's exit status; with --leave at once, while the group goes on."""
    words = sys.argv[1:]
    if words[0] == LEAVE:
        del words[0]
        if os.fork():
            os._exit(0)
    seconds, *command = words
    child = subprocess.Popen(command, close_fds=False)
    try:
        code = child.wait(float(seconds))
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)
        return 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
