"""A plain folder on a local disk as a store: atomic names, and fsync as the evidence.

A file gets a temporary name (what lies on the same disk is linked to it, all else is copied), is flushed, read back, and
linked to its real name, so that no reader and no power loss ever shows a part of it under that name; folders are flushed
because a name lives in its folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING

from supervisor.core.digest import SHA256
from supervisor.core.ports import Measured, Missing, StoreError, Traits
from supervisor.stores import disk
from supervisor.stores.failures import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.core.ports import Entry

TEMPORARY = ".tmp-"


class FolderStore:
    """Runs in a folder of this machine. All laws of ``core.ports.Store`` hold; see there."""

    def __init__(self, root: str, *, settle_s: float = 0.0) -> None:
        self.root = os.path.abspath(root)
        self.traits = Traits(where=self.root, settle_s=settle_s)
        self._root_seen: tuple[int, int] | None = None
        self._token, self._numbers = os.urandom(4).hex(), count()
        self._flushed: set[str] = set()
        self.left_out: set[str] = set()

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names in a folder, temporary ones left out; an absent folder has none."""
        with translated(folder):
            self._see_root()
            try:
                with self._inside(disk.parts(folder)) as fd, _scanned(fd) as found:
                    names = [each for each in found if not each.name.startswith(TEMPORARY)]
                    entries = [disk.entry(each) for each in names]
                    if None in entries:
                        missing = [each for each, entry in zip(names, entries, strict=True) if entry is None]
                        disk.note_odd(self.left_out, folder, missing)
            except FileNotFoundError:
                self._see_root()
                return ()
        return tuple(
            sorted(filter(None, entries), key=itemgetter(0))
        )  # by name; compared in C, as a folder may have very many

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        with translated(path), self._reading(path) as fd:
            return b"".join(disk.chunks(fd, disk.READ_BYTES_MAX))

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once, whole and flushed."""
        with translated(path):
            self._put(path, SHA256, lambda temporary: disk.write(temporary, (body,), SHA256))

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy or link a local file into the store once, and read it back. Missing: the local one is."""
        with translated(path):
            try:
                source = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise Missing(f"{local} is not there") from error

            def fill(temporary: str) -> Measured | None:
                if link and disk.link(local, temporary, source):
                    return None
                return disk.write(temporary, disk.chunks(source), algorithm)

            with disk.closing(source):
                return self._put(path, algorithm, fill)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy or link a file of the store to the local disk, measuring it. What fails here is of kind "local"."""
        with translated(path), self._reading(path) as source, translated(local, "local"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)  # never written into, because it may be a second name of another file of the store
            read = _translated_chunks(source, path)
            if link and disk.link(self._path(path), local, source):
                return disk.measure(read, algorithm)
            return disk.write(local, read, algorithm)

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder; absent is fine. After it returned, a power loss does not bring it back."""
        with translated(path):
            self._see_root()
            try:
                self._remove(disk.parts(path))
            except FileNotFoundError:
                self._see_root()
            with contextlib.suppress(FileNotFoundError):
                disk.flush_folder(os.path.dirname(self._path(path)))

    def sweep(self, folder: str) -> int:
        """Remove what writers that died left half-written in a folder; return how many bytes that frees."""
        with translated(folder):
            self._see_root()
            try:
                with self._inside(disk.parts(folder)) as fd:
                    return _sweep(fd, spare=f"{TEMPORARY}{self._token}-")
            except FileNotFoundError:
                return 0

    def evidence(self, path: str) -> str:
        """Flush the file, its folder and the folders above, and return that as the proof.

        Flushed anew, because it may be another try's or another process's file, of whose flushing nothing is known.
        """
        with translated(path):
            with self._reading(path) as fd:
                os.fsync(fd)
            folder = os.path.dirname(self._path(path))
            disk.flush_folder(folder)
            self._ensure(folder)
        return self.traits.evidence

    def free_bytes(self) -> int | None:
        """Return the room on the disk that the folder is on, or will be."""
        return disk.free_bytes(self.root)

    def _path(self, path: str) -> str:
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        return os.path.join(self.root, *filter(None, path.split("/")))

    def _remove(self, names: Sequence[str]) -> None:
        """Remove a file, or a folder with nothing in it but what no listing shows; without names the store's own folder."""
        if not names:
            os.rmdir(self.root)
            return
        *above, name = names
        with self._inside(above) as folder:
            if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                with disk.below(folder, (name,)) as fd:
                    _sweep(fd, links=True)
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _inside(self, names: Sequence[str]) -> Iterator[int]:
        """Open a folder of the store. The root's own path may have links, as the user typed it; below it none is followed."""
        if ".." in names:
            raise StoreError(f"{'/'.join(names)} leads out of the store")
        root = os.open(self.root, disk.PASSING)
        with disk.closing(root), disk.below(root, names) as fd:
            yield fd

    def _see_no_link(self, names: Sequence[str]) -> None:
        """Raise unless a new file of this path comes to lie in the store itself."""
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
            fd = opened.enter_context(self._inside(()))
            for name in names[:-1]:
                fd = opened.enter_context(disk.below(fd, (name,)))

    def _see_root(self) -> None:
        """Raise unless the root is the folder it was when first seen: a mount that vanished leaves another, or none."""
        try:
            seen = os.stat(self.root)
        except FileNotFoundError:
            if self._root_seen is not None:
                raise StoreError(f"{self.root} is not there any more", "gone") from None
            return
        if self._root_seen not in {None, (seen.st_dev, seen.st_ino)}:
            raise StoreError(f"{self.root} is not the folder any more that it was", "gone")
        self._root_seen = (seen.st_dev, seen.st_ino)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[int]:
        try:
            *above, name = disk.parts(path)
            with self._inside(above) as folder:
                fd = disk.open_file(name, folder)
        except FileNotFoundError as error:
            self._see_root()
            raise Missing(f"{path} is not there") from error
        with disk.closing(fd):
            yield fd

    def _put(self, path: str, algorithm: str, fill: Callable[[str], Measured | None]) -> Measured:
        """Make a file: ``fill`` gives the temporary name its content and says what passed, None if nothing had to."""
        self._see_root()
        full = self._path(path)
        folder = os.path.dirname(full)
        self._see_no_link(disk.parts(path))
        self._ensure(folder)
        self._see_root()
        temporary = os.path.join(folder, f"{TEMPORARY}{self._token}-{next(self._numbers)}")
        try:
            passed = fill(temporary)
            measured = disk.proved(temporary, algorithm)
            if passed not in {None, measured}:
                raise StoreError(f"{path} reads back differently from what was written", "lied")
            disk.name(temporary, full)
        finally:
            disk.forget(temporary)
        return measured

    def _ensure(self, folder: str) -> None:
        """Make a folder; flush its name and those above, once even if they exist: who made them may have died before."""
        above = os.path.dirname(folder)
        if folder not in {self.root, above} and above not in self._flushed:
            self._ensure(above)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder in self._flushed:
                return
        except FileNotFoundError:
            if above == folder:
                raise
            self._ensure(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        try:
            disk.flush_folder(above)
        except PermissionError:
            if folder.startswith(f"{self.root}/"):
                raise  # above the root there may be folders that we may not open; those are not of our making
        self._flushed.add(folder)


def _sweep(folder: int, *, spare: str = "", links: bool = False) -> int:
    """Remove temporary files of an open folder, with ``links`` all that is neither a file nor a folder, too."""
    freed = 0
    with _scanned(folder) as found:
        for each in found:
            temporary = each.name.startswith(TEMPORARY) and not (spare and each.name.startswith(spare))
            seen = os.lstat(each.name, dir_fd=folder)
            if stat.S_ISDIR(seen.st_mode) or not (temporary or (links and not stat.S_ISREG(seen.st_mode))):
                continue
            os.unlink(each.name, dir_fd=folder)
            freed += seen.st_size if seen.st_nlink == 1 and stat.S_ISREG(seen.st_mode) else 0
    return freed


@contextlib.contextmanager
def _scanned(folder: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List an open folder; what is listed is looked at below it and nowhere else."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    with disk.closing(fd), os.scandir(fd) as found:
        yield found


def _translated_chunks(fd: int, path: str) -> Iterator[bytes]:
    with translated(path):
        yield from disk.chunks(fd)
