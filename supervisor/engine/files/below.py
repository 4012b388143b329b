"""A folder whose inside is reached by descriptors alone.

A path is opened name after name, and no name that is a link is gone through. So whatever somebody swaps for a link between a
look and an act, nothing is read, written or moved behind it. The folder itself may be a link: a person named it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Below:
    """What lies under ``root``, by relative paths with "/" between the names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._descriptor = os.open(root, _FOLDER)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    @contextmanager
    def folder_of(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the open folder in which a path lies, and the path's last name there. Raises OSError.

        ``make``: folders on the way that are absent are made.
        """
        *above, name = path.split("/")
        current = os.dup(self._descriptor)
        try:
            for number, each in enumerate(above, 1):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(each, dir_fd=current)
                inner = self._opened(each, current, "/".join(above[:number]))
                os.close(current)
                current = inner
            yield current, name
        finally:
            os.close(current)

    def open(self, path: str) -> int:
        """Open a file for reading; no link and no pipe is waited for or gone through. Raises OSError."""
        with self.folder_of(path) as (folder, name):
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, where they are absent. Raises OSError."""
        with self.folder_of(path, make=True) as (folder, name):
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
            os.close(self._opened(name, folder, path))

    def move(self, path: str, to: Path) -> None:
        """Move what lies at a path, a link itself and not what it leads to, to a free place elsewhere. Raises OSError."""
        with self.folder_of(path) as (folder, name):
            try:
                os.rename(name, to, src_dir_fd=folder)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.move(f"/proc/self/fd/{folder}/{name}", os.fspath(to))  # another disk: copied, then removed

    def _opened(self, name: str, folder: int, path: str) -> int:
        try:
            return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            if not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise
            raise through_link(self.root, path) from error


def through_link(root: Path, folder: str) -> OSError:
    """Return the error for a folder that is a link."""
    words = f"{folder} is a link, and files are put back through one only where --watch names it"
    return OSError(errno.ELOOP, words, os.fspath(root / folder))
