"""File operations of a local disk: write, link, verify, measure. No function opens an existing file for writing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest
from supervisor.core.ports import AlreadyExists, FileDigest, FolderEntry
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 4 * 1024 * 1024
READ_BYTES_MAX = 64 << 20  # limit for a small record; anything longer is no record, and the rest is not read
OPEN_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
SPECIAL_FILES_MAX = 100
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def write(target: str, chunks: Iterable[bytes], algorithm: str) -> FileDigest:
    """Write a new file and return its measure, without a flush. Raises OSError if the name is taken."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with closing(fd):
        return measure(write_through(fd, chunks), algorithm)


def link(source: str, target: str, fd: int) -> bool:
    """Try to give the file open as ``fd`` a second name; return True on success.

    The reason of a failure does not matter. The caller copies instead, and the copy reports any disk error.
    """
    try:
        os.link(source, target)
        if os.path.samestat(os.lstat(target), os.fstat(fd)):
            return True
    except OSError:
        # a failed call may have made the name: a copy would then be written into its own source
        remove_temporary(target)
        return False
    os.unlink(target)  # the source's name is a symbolic link, or names another file by now
    return False


def flush_and_digest(full: str, algorithm: str) -> FileDigest:
    """Flush a file, drop it from the page cache, read it back from the disk and return its measure."""
    fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
    with closing(fd):
        os.fsync(fd)
        drop_from_memory(fd)
        return measure(chunks(fd), algorithm)


def measure(chunks: Iterable[bytes], algorithm: str) -> FileDigest:
    """Return the length and digest of the chunks."""
    digest, length = Digest(algorithm), 0
    for chunk in chunks:
        digest.update(chunk)
        length += len(chunk)
    return FileDigest(length, str(digest))


def chunks(fd: int, most: int | None = None) -> Iterator[bytes]:
    """Read a file to its end, or at most ``most`` bytes of it."""
    left = most
    while chunk := os.read(fd, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        yield chunk
        left = None if left is None else left - len(chunk)


def folder_entry(each: os.DirEntry[str]) -> FolderEntry | None:
    """Return the entry for a name, or None if it disappeared or is neither a file nor a folder.

    A symbolic link counts as neither. It may lead anywhere, so it is never followed.
    """
    try:
        if each.is_dir(follow_symlinks=False):
            return FolderEntry(each.name, folder=True, bytes=None)
        if each.is_file(follow_symlinks=False):
            return FolderEntry(each.name, folder=False, bytes=each.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:
        pass
    return None


def is_special_file(each: os.DirEntry[str]) -> bool:
    """Return True for a link, pipe, socket or device. A name that disappeared is not special."""
    try:
        mode = each.stat(follow_symlinks=False).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def note_special_files(noted: set[str], folder: str, names: Iterable[os.DirEntry[str]]) -> None:
    """Add to ``noted`` the names that no listing shows, so that the user is told once."""
    for each in names:
        if len(noted) < SPECIAL_FILES_MAX and is_special_file(each):
            noted.add(f"{folder}/{each.name}".strip("/"))


def parts(path: str) -> list[str]:
    """Return the names in a store path."""
    return [name for name in path.split("/") if name not in {"", "."}]


@contextlib.contextmanager
def open_subfolder(top: int, names: Iterable[str]) -> Iterator[int]:
    """Open a folder by its path below an open one. Raises OSError if a symbolic link is on the path."""
    with contextlib.ExitStack() as opened:
        fd = top
        for name in names:
            try:
                fd = os.open(name, OPEN_FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise symlink_error(name) if is_symlink(name, fd) else error from None
            opened.callback(os.close, fd)
        yield fd


def symlink_error(name: str) -> OSError:
    """Return the error for a folder that is a symbolic link."""
    return OSError(errno.ELOOP, "it is a link, and none is followed in a store", name)


def is_symlink(name: str, folder: int) -> bool:
    """Return True if a name in an open folder is a symbolic link."""
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False


def open_file(path: str, folder: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor.

    Any other kind of file counts as absent. A pipe without a writer would block its reader for ever, and a link may
    lead anywhere.

    Args:
        path: the file's path.
        folder: descriptor of the folder that a relative path starts from.
    """
    absent = _absent(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise absent if error.errno in {errno.ENXIO, errno.ELOOP} else error from None  # a socket, a link
    try:
        kind = os.fstat(fd).st_mode
    except OSError:
        os.close(fd)
        raise
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # reading a folder raises a clear error
        return fd
    os.close(fd)
    raise absent


def _absent(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "it is no regular file or folder", path)


def free_bytes(folder: str) -> int | None:
    """Return the free bytes on the disk of a folder or of its nearest existing parent; None if unknown."""
    while True:
        try:
            room = os.statvfs(folder)
        except OSError:
            if folder == os.path.dirname(folder):
                return None
            folder = os.path.dirname(folder)
            continue
        return room.f_bavail * room.f_frsize if room.f_blocks else None


def link_into_place(temporary: str, full: str) -> None:
    """Give a flushed file its final name; the name survives a power loss. Raises AlreadyExists."""
    try:
        os.link(temporary, full)
    except FileExistsError as error:
        raise AlreadyExists(f"{full} exists already") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_if_free(temporary, full)
    atomic.flush_folder(os.path.dirname(full))


def remove_temporary(temporary: str) -> None:
    """Remove a temporary file. A failure is harmless: no reader sees the file, and sweep() and delete() try again."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def drop_from_memory(fd: int) -> None:
    """Ask the system to serve the next read from the disk."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        with contextlib.suppress(OSError):  # it is advice; some file systems reject it
            advise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def closing(fd: int) -> Iterator[None]:
    """Close a descriptor at the end. An error of close() is raised unless another error came first."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def write_through(fd: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Write each chunk completely to an open file, then yield it."""
    for chunk in chunks:
        _write_all(fd, memoryview(chunk))
        yield chunk


def _write_all(fd: int, view: memoryview) -> None:
    while view:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError(errno.EIO, "the disk took nothing")
        view = view[written:]


def _rename_if_free(temporary: str, full: str) -> None:
    """Rename a file on a disk without hard links. Two sessions never share a path, so there is no race."""
    try:
        os.lstat(full)
    except FileNotFoundError:
        os.rename(temporary, full)
        return
    raise AlreadyExists(f"{full} exists already")
