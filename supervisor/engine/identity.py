"""Which process on which boot of which machine: so that a dead predecessor on this machine is known at once."""

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
    """Return a random name for a session's writer; two machines never draw the same."""
    return os.urandom(4).hex()


def mine() -> dict[str, Any]:
    """Return what tells this process apart from every other, as it goes into the claim."""
    return {
        "boot": _text(PROC / "sys/kernel/random/boot_id"),
        "processes": _link(PROC / "self/ns/pid"),
        "pid": os.getpid(),
        "since": started(os.getpid()),
        "host": socket.gethostname(),
        "machine": os.environ.get(MACHINE, ""),
    }


def alive(claimed: Mapping[str, Any]) -> bool | None:
    """Say whether the process that wrote a claim lives: True, False, or None where it cannot be told from here.

    A pid means something only within one boot and one process namespace, because both begin to count anew; and of a fleet's
    machine what comes later than its end is still to be fetched, so its death alone tells the others nothing.
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
    """Say whether the machine of a claim may be the one that is described by ``here``, so that they share their disk.

    After a restart it has another boot and the same name; a container beside us has the same boot and another name.
    """
    return any(claimed.get(key) and claimed[key] == here.get(key) for key in ("boot", "host"))


def started(pid: int) -> str | None:
    """Return when a process began (clock ticks since boot), or None if there is none or it is a zombie."""
    try:
        after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in {"Z", "X"} else after_name[19]


def cpu_s(group: int) -> float | None:
    """Return the processor time that the living processes of a group have used, in seconds; None on systems without /proc.

    Fields as in proc(5): pgrp is the 5th, utime to cstime (its own and its ended children's) are the 14th to 17th.
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
        return ""  # no such file on this system: liveness is then unknown, never guessed


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
