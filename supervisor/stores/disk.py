"""Files of a disk: written, proved, measured, named. Nothing here ever opens a file that exists for writing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest
from supervisor.core.ports import Entry, Measured, Taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 4 * 1024 * 1024
READ_BYTES_MAX = 64 << 20  # of a small file: what is longer is no record, and is read no farther
PASSING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
NOTED_MAX = 100
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def write(target: str, chunks: Iterable[bytes], algorithm: str) -> Measured:
    """Write a new file and measure what passes; nothing is flushed. An OSError if the name is taken."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with closing(fd):
        return measure(written(fd, chunks), algorithm)


def link(source: str, target: str, fd: int) -> bool:
    """Give the file that is open as ``fd`` a second name, if it can have one; say whether it has.

    Why it cannot does not matter: who copies instead finds out what is wrong with the disk, if anything is.
    """
    try:
        os.link(source, target)
        if os.path.samestat(os.lstat(target), os.fstat(fd)):
            return True
    except OSError:
        # a name made by a call that failed would let a copy be written into its own source
        forget(target)
        return False
    os.unlink(target)  # the source's name is a symbolic link, or another file's by now
    return False


def proved(full: str, algorithm: str) -> Measured:
    """Flush a file and measure what then lies on the disk: memory is told to forget it, and it is read anew."""
    fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
    with closing(fd):
        os.fsync(fd)
        drop_from_memory(fd)
        return measure(chunks(fd), algorithm)


def measure(chunks: Iterable[bytes], algorithm: str) -> Measured:
    """Return the length and digest of chunks that pass."""
    digest, length = Digest(algorithm), 0
    for chunk in chunks:
        digest.update(chunk)
        length += len(chunk)
    return Measured(length, str(digest))


def chunks(fd: int, most: int | None = None) -> Iterator[bytes]:
    """Read a file to its end, or ``most`` bytes of it."""
    left = most
    while chunk := os.read(fd, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        yield chunk
        left = None if left is None else left - len(chunk)


def entry(each: os.DirEntry[str]) -> Entry | None:
    """Return what a name is; None if it went away while we looked, or is neither a file nor a folder.

    A symbolic link is neither: it may lead anywhere, so it is never followed.
    """
    try:
        if each.is_dir(follow_symlinks=False):
            return Entry(each.name, folder=True, bytes=None)
        if each.is_file(follow_symlinks=False):
            return Entry(each.name, folder=False, bytes=each.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:
        pass
    return None


def is_odd(each: os.DirEntry[str]) -> bool:
    """Say whether a name is neither a file nor a folder: a link, a pipe, a socket, a device. One that went away is not."""
    try:
        mode = each.stat(follow_symlinks=False).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def note_odd(noted: set[str], folder: str, names: Iterable[os.DirEntry[str]]) -> None:
    """Note which names of a folder no listing has, for people to be told once."""
    for each in names:
        if len(noted) < NOTED_MAX and is_odd(each):
            noted.add(f"{folder}/{each.name}".strip("/"))


def parts(path: str) -> list[str]:
    """Return the names that a path of a store is made of."""
    return [name for name in path.split("/") if name not in {"", "."}]


@contextlib.contextmanager
def below(top: int, names: Iterable[str]) -> Iterator[int]:
    """Open a folder by its way from an open one. A link on it is not followed: OSError."""
    with contextlib.ExitStack() as opened:
        fd = top
        for name in names:
            try:
                fd = os.open(name, PASSING | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise linked(name) if is_link(name, fd) else error from None
            opened.callback(os.close, fd)
        yield fd


def linked(name: str) -> OSError:
    """Return the error for a folder that is a symbolic link."""
    return OSError(errno.ELOOP, "it is a link, and none is followed in a store", name)


def is_link(name: str, folder: int) -> bool:
    """Say whether a name in an open folder is a symbolic link."""
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False


def open_file(path: str, folder: int | None = None) -> int:
    """Open a regular file for reading, of the folder that is open if one is given; return its descriptor.

    Whatever else has the name counts as absent: a pipe that nobody writes would keep its reader for ever, and a link may lead
    anywhere.
    """
    absent = _absent(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise absent if error.errno in {errno.ENXIO, errno.ELOOP} else error from None  # of a socket, of a link
    try:
        kind = os.fstat(fd).st_mode
    except OSError:
        os.close(fd)
        raise
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # reading a folder fails in words
        return fd
    os.close(fd)
    raise absent


def _absent(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "it is no regular file or folder", path)


def free_bytes(folder: str) -> int | None:
    """Return the room on the disk of a folder, or of the nearest one above that exists; None if it does not say."""
    while True:
        try:
            room = os.statvfs(folder)
        except OSError:
            if folder == os.path.dirname(folder):
                return None
            folder = os.path.dirname(folder)
            continue
        return room.f_bavail * room.f_frsize if room.f_blocks else None


def name(temporary: str, full: str) -> None:
    """Give a flushed file its name, which it keeps through a power loss from then on. Raises Taken."""
    try:
        os.link(temporary, full)
    except FileExistsError as error:
        raise Taken(f"{full} exists already") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_if_free(temporary, full)
    flush_folder(os.path.dirname(full))


def flush_folder(folder: str) -> None:
    """Make the names in a folder, and that others are gone, survive a power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with closing(fd):
        os.fsync(fd)


def forget(temporary: str) -> None:
    """Remove a temporary file. One that cannot be is harmless: no reader sees it, and sweep() and delete() try again."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def drop_from_memory(fd: int) -> None:
    """Have the next read come from the disk, where the system takes that advice."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        with contextlib.suppress(OSError):  # it is advice; some file systems take none
            advise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def closing(fd: int) -> Iterator[None]:
    """Close a descriptor at the end; an error of closing counts, unless there was one before."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def written(fd: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Write chunks to an open file, each of them whole, and pass them on."""
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
    """Name a file where the disk has no links. Two sessions never share a path, so nothing comes between."""
    try:
        os.lstat(full)
    except FileNotFoundError:
        os.rename(temporary, full)
        return
    raise Taken(f"{full} exists already")
