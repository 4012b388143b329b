"""A folder whose content is reached only by descriptors.

A path is opened name by name, and no link is followed. So a link that another process swaps in between a check and an
access never leads outside. The folder itself may be a link, because the user named it.
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
    """Content of ``root``, by relative paths with "/" between the names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._descriptor = os.open(root, _FOLDER)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    @contextmanager
    def open_parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the open parent folder of a path, and the path's last name. Raises OSError.

        ``make``: make missing folders on the way.
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
        """Open a file for reading without following links or waiting for pipes. Raises OSError."""
        with self.open_parent(path) as (folder, name):
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    def make_folder(self, path: str) -> None:
        """Make a folder and its missing parents. Raises OSError."""
        with self.open_parent(path, make=True) as (folder, name):
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
            os.close(self._opened(name, folder, path))

    def move(self, path: str, to: Path) -> None:
        """Move the file at a path, or a link itself, to a free place elsewhere. Raises OSError."""
        with self.open_parent(path) as (folder, name):
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
            raise link_error(self.root, path) from error


def link_error(root: Path, folder: str) -> OSError:
    """Return the error for a folder that is a link."""
    words = f"{folder} is a link, and files are put back through one only where --watch-dir names it"
    return OSError(errno.ELOOP, words, os.fspath(root / folder))
