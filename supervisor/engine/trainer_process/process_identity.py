"""Identity of a process: machine, boot, and process. A dead predecessor on this machine is recognised by it at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PROC = Path("/proc")
MACHINE = "SUPERVISOR_RUN_MACHINE"  # set by a fleet's agent: several machines of a fleet may be one computer


def new_writer() -> str:
    """Return a random writer name for a session."""
    return os.urandom(4).hex()


def mine() -> dict[str, Any]:
    """Return the identity of this process, for its claim."""
    return {
        "boot": _text(PROC / "sys/kernel/random/boot_id"),
        "processes": _link(PROC / "self/ns/pid"),
        "pid": os.getpid(),
        "since": started(os.getpid()),
        "host": socket.gethostname(),
        "machine": os.environ.get(MACHINE, ""),
    }


def alive(claimed: Mapping[str, Any]) -> bool | None:
    """Return whether the process that wrote a claim is alive; None if that cannot be decided here.

    A pid is meaningful only within one boot and one process namespace. On a machine of the fleet a dead process proves
    nothing to others, because its last files may still be on the way.
    """
    here = mine()
    if not claimed.get("boot") or any(claimed.get(key) != here[key] for key in ("boot", "processes")):
        return None
    if claimed.get("machine", "") != here["machine"]:
        return None
    pid = claimed.get("pid")
    if not isinstance(pid, int) or claimed.get("since") is None:
        return None
    return bool(started(pid) == claimed["since"])


def maybe_here(claimed: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return whether the machine of a claim may be the one described by ``here``, with the same disk.

    After a restart the boot differs and the name is the same. A container beside this one has the same boot and another
    name.
    """
    return any(claimed.get(key) and claimed[key] == here.get(key) for key in ("boot", "host"))


def started(pid: int) -> str | None:
    """Return the start of a process in clock ticks since boot; None if there is none or it is a zombie."""
    try:
        after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in {"Z", "X"} else after_name[19]


def cpu_s(group: int) -> float | None:
    """Return the CPU seconds of the living processes of a group; None on systems without /proc.

    Fields as in proc(5): pgrp is the 5th, utime to cstime (own and ended children's) are the 14th to 17th.
    """
    ticks, found = 0, False
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(after_name[2]) == group:
            found = True
            ticks += sum(map(int, after_name[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # no such file on this system: liveness is unknown


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
