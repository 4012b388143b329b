"""A mount held by a descriptor of its root folder and verified before each operation.

A drive can vanish and leave a plain local folder, or another drive, in its place. The store reaches each path from the
descriptor, which never leads into that folder. So no file is written that would be lost with the machine (I13).
"""

from __future__ import annotations

import os

from supervisor.core.ports import StoreError
from supervisor.stores.mounted.mounts import TABLE_PATH, Mount, mounts, resolve_to_mount


class MountGuard:
    """The mount that holds ``root``.

    Args:
        root: folder of the store.
        mount: the mount when the store was opened.
        table_path: the mount table.
    """

    def __init__(self, root: str, mount: Mount, table_path: str = TABLE_PATH) -> None:
        self.root, self.mount = root, mount
        self._table_path = table_path
        self._fd: int | None = None
        self.opened = 0

    def verified_root(self) -> tuple[int, str]:
        """Return the descriptor of the mount's root folder and the path of ``root`` below it. Raises StoreError "gone".

        A descriptor that fails is closed. The next call opens the mount again, because it may be back.
        """
        try:
            return self._verify()
        except (OSError, StoreError):
            self.release()
            raise

    def release(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def is_on_mount(self, fd: int) -> bool:
        """Return True if the file open as ``fd`` lies on this mount, and not behind a link that leads away from it."""
        return self._fd is not None and os.fstat(fd).st_dev == os.fstat(self._fd).st_dev

    def _verify(self) -> tuple[int, str]:
        full, found = resolve_to_mount(self.root, mounts(self._table_path))
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
            raise StoreError(f"{point} was mounted again", "gone")
        if point != "/" and os.stat(os.path.dirname(point)).st_dev == here:
            raise StoreError(f"{point} is a plain folder", "gone")
        return self._fd, os.path.relpath(full, point)
