"""How much memory may still be taken before the system kills somebody for it."""

from __future__ import annotations

from pathlib import Path

SHARE = 0.8  # of what is free: the script needs some itself


def has_room_for(size: int, root: Path = Path("/")) -> bool:
    """Say whether ``size`` more bytes fit into the machine's and the container's memory; unknown counts as yes.

    Asked before a large buffer is made, because the system promises any amount and kills the process that uses it.
    """
    free = [amount for amount in (_machine_free(root), _group_free(root)) if amount is not None]
    return not free or size <= SHARE * min(free)


def _machine_free(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_free(root: Path) -> int | None:
    """Version 2 of control groups; inside a container the container's own group is the root."""
    group = root / "sys/fs/cgroup"
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if not limit.isdecimal() or not used.isdecimal():
        return None
    cached = [
        int(line.split()[1]) for line in _text(group / "memory.stat").splitlines() if line.startswith("inactive_file ")
    ]
    return int(limit) - int(used) + sum(cached)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such kernel feature: unknown, which is not zero
