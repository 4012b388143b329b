"""What a measurement depends on besides the code: the machine, its disk, its load, the versions."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONS = ("torch", "numpy", "safetensors", "xxhash")


def facts(folder: Path) -> dict[str, Any]:
    """Return the facts as JSON values; ``folder`` is on the disk that is measured."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": _mounted(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def load() -> list[float]:
    """Return the load averages over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def free_bytes(folder: Path) -> tuple[int, int]:
    """Return the bytes that memory and the folder's disk still have."""
    status = os.statvfs(folder)
    return int(_field(Path("/proc/meminfo"), "MemAvailable").split()[0]) * 1024, status.f_bavail * status.f_frsize


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _field(path: Path, key: str) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _mounted(folder: Path) -> str:
    """Return file system and device of the longest mount point that holds the folder."""
    best, found = "", ""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        device, point, kind = line.split()[:3]
        holds = f"{folder.resolve()}/".startswith(f"{point.rstrip('/')}/")
        if holds and len(point) >= len(best):
            best, found = point, f"{kind} on {device}"
    return found
