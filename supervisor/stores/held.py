"""A mount that is held by a descriptor of its root folder, and proved to be the one it was before anything is done in it.

A drive can vanish and leave a plain folder of this machine in its place, or another drive. Every path of the store is walked
from the descriptor, which can never lead into that folder, so that nothing is written that would die with the machine (I13).
"""

from __future__ import annotations

import os

from supervisor.core.ports import StoreError
from supervisor.stores.mounts import TABLE_PATH, Mount, located, mounts


class HeldMount:
    """The mount under ``root``. ``mount`` is what it was when the store was opened; ``table_path`` the mount table."""

    def __init__(self, root: str, mount: Mount, table_path: str = TABLE_PATH) -> None:
        self.root, self.mount = root, mount
        self._table_path = table_path
        self._fd: int | None = None
        self.opened = 0

    def proved(self) -> tuple[int, str]:
        """Return the descriptor of the mount's root folder and the way of ``root`` below it. Raises StoreError "gone".

        A descriptor that fails is let go, and the next call opens the mount anew: it may be back.
        """
        try:
            return self._proved()
        except (OSError, StoreError):
            self.release()
            raise

    def release(self) -> None:
        """Let the descriptor go."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def is_here(self, fd: int) -> bool:
        """Whether what is open as ``fd`` lies on this mount, and not behind a link that leads away from it."""
        return self._fd is not None and os.fstat(fd).st_dev == os.fstat(self._fd).st_dev

    def _proved(self) -> tuple[int, str]:
        full, found = located(self.root, mounts(self._table_path))
        point = self.mount.point
        if found is None or found.point != point:
            raise StoreError(f"{point} is not mounted any more; what lies there now is on this machine alone", "gone")
        if (found.fstype, found.source, found.root) != (self.mount.fstype, self.mount.source, self.mount.root):
            raise StoreError(f"{point} is another mount than before: {found.source} of type {found.fstype}", "gone")
        if self._fd is None:
            self._fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.opened += 1
        here = os.fstat(self._fd).st_dev
        if f"{os.major(here)}:{os.minor(here)}" != found.device:
            raise StoreError(f"{point} was mounted anew", "gone")
        if point != "/" and os.stat(os.path.dirname(point)).st_dev == here:
            raise StoreError(f"{point} is a plain folder", "gone")
        return self._fd, os.path.relpath(full, point)
