"""The host buffer for snapshots: one, kept from save to save, page-aligned, with its memory provided in advance.

Fresh memory is 2 to 16 times slower to copy into than touched memory. So it is touched once, beside the loop.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.trainer.process.threads import start_thread

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

PAGE_BYTES = 4096
TOUCH_BYTES = 32 * 1024 * 1024
USABLE_SHARE = 0.8  # of the free memory: the script needs some itself
MADV_POPULATE_WRITE = 23  # Linux 5.14; Python does not name it


class HostBuffer:
    """Private memory of this process. MemoryError if it does not fit."""

    def __init__(self, size: int) -> None:
        if not has_room_for(size):
            raise MemoryError(f"no room for a copy of {size} bytes")
        try:
            self._memory = mmap.mmap(-1, max(size, PAGE_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError, OverflowError) as error:
            raise MemoryError(f"no room for a copy of {size} bytes") from error
        self._on_release: list[Callable[[], None]] = []
        self._toucher: threading.Thread | None = None
        self._released = False
        self.view = memoryview(self._memory)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # A forked data loader's worker must not share these pages: every later copy would first duplicate them. It gets
        # empty ones at the same place, because a hole there would be given to others, and lost to them with the buffer.
        for advice in ("MADV_WIPEONFORK", "MADV_HUGEPAGE"):
            self._advise(getattr(mmap, advice, None))

    def touch(self) -> None:
        """Have the system provide all of the memory, beside the caller: gigabytes take seconds."""
        if self._toucher is None:
            self._toucher = start_thread(self._touch, "supervisor-toucher", daemon=True)

    def before_release(self, action: Callable[[], None]) -> None:
        """Register an action that runs before the memory returns to the system."""
        self._on_release.append(action)

    def release(self) -> None:
        """Drop the memory; it returns to the system with its last view."""
        self._released = True
        if self._toucher is not None:
            self._toucher.join()
        for action in self._on_release:
            action()
        self._on_release.clear()
        self.view = memoryview(b"")
        del self._memory

    def _touch(self) -> None:
        madvise = ctypes.CDLL(None).madvise
        for begin in range(0, len(self.view), TOUCH_BYTES):
            size = min(TOUCH_BYTES, len(self.view) - begin)
            address = ctypes.c_void_p(self.address + begin)
            if self._released or madvise(address, ctypes.c_size_t(size), MADV_POPULATE_WRITE) != 0:
                return  # an older kernel: the first copy touches it

    def _advise(self, advice: int | None) -> None:
        if advice is None:
            return
        try:
            self._memory.madvise(advice)
        except OSError:
            return  # a kernel without it: slower, not wrong


def has_room_for(size: int, root: Path = Path("/")) -> bool:
    """Return whether ``size`` more bytes fit into the machine's and the container's memory; unknown counts as yes.

    Check before allocating a large buffer: the system promises any amount, and kills the process that uses it.
    """
    free = [amount for amount in (_machine_free(root), _group_free(root)) if amount is not None]
    return not free or size <= USABLE_SHARE * min(free)


def _machine_free(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_free(root: Path) -> int | None:
    """Return the free bytes by version 2 of control groups. In a container, the container's own group is the root."""
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
