"""The host buffer that snapshots are copied into: one, kept from save to save, page-aligned, of memory that is really there.

Fresh memory is 2 to 16 times slower to copy into than memory that was touched before, so it is touched once, beside the loop.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

from supervisor.trainer.memory import has_room_for
from supervisor.trainer.threads import started

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

PAGE_BYTES = 4096
TOUCH_BYTES = 32 * 1024 * 1024
MADV_POPULATE_WRITE = 23  # Linux 5.14; Python does not name it


class HostBuffer:
    """Private memory of this process; MemoryError where there is no room for it."""

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
        """Have the system provide all of the memory, beside the caller: for gigabytes it takes seconds."""
        if self._toucher is None:
            self._toucher = started(self._touch, "supervisor-toucher", daemon=True)

    def before_release(self, action: Callable[[], None]) -> None:
        """Have something done before the memory goes back to the system."""
        self._on_release.append(action)

    def release(self) -> None:
        """Forget the memory; it goes back to the system with the last view of it."""
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
