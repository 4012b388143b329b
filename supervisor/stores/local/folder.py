"""A store in a folder on a local disk: atomic names, and fsync as the evidence of durability.

A file first gets a temporary name: a hard link on the same disk, else a copy. The store flushes it, reads it back and
links it to its final name. So no reader and no power loss ever shows a partial file under the final name. Folders are
flushed too, because a name lives in its folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING

from supervisor.core.digest import SHA256
from supervisor.core.ports import FileDigest, NotFound, StoreError, StoreTraits
from supervisor.engine import atomic
from supervisor.stores.local import files as local_files
from supervisor.stores.os_errors import as_store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from supervisor.core.ports import FolderEntry
    from supervisor.stores import StorePlace

TEMPORARY = ".tmp-"


class FolderStore:
    """Store in a folder of this machine. It fulfils the contract of ``core.ports.Store``."""

    def __init__(self, root: str, *, settle_s: float = 0.0) -> None:
        self.root = os.path.abspath(root)
        self.traits = StoreTraits(where=self.root, settle_s=settle_s)
        self._root_identity: tuple[int, int] | None = None
        self._token, self._numbers = os.urandom(4).hex(), count()
        self._flushed: set[str] = set()
        self.left_out: set[str] = set()

    @classmethod
    def open_at(cls, place: StorePlace) -> Self:
        """Return the store at a place. The folder is not touched yet."""
        return cls(place.where, settle_s=place.settle_s or 0.0)

    def list(self, folder: str) -> Sequence[FolderEntry]:
        """Return the names in a folder without temporary ones. An absent folder is empty."""
        with as_store_error(folder):
            self._require_same_root()
            try:
                with self._open_folder(local_files.parts(folder)) as fd, _scanned(fd) as found:
                    names = [each for each in found if not each.name.startswith(TEMPORARY)]
                    entries = [local_files.folder_entry(each) for each in names]
                    if None in entries:
                        missing = [each for each, entry in zip(names, entries, strict=True) if entry is None]
                        local_files.note_special_files(self.left_out, folder, missing)
            except FileNotFoundError:
                self._require_same_root()
                return ()
        return tuple(
            sorted(filter(None, entries), key=itemgetter(0))
        )  # sorts by name; the comparison runs in C, because a folder may have very many entries

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        with as_store_error(path), self._reading(path) as fd:
            return b"".join(local_files.chunks(fd, local_files.READ_BYTES_MAX))

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once, completely, and flush it."""
        with as_store_error(path):
            self._put(path, SHA256, lambda temporary: local_files.write(temporary, (body,), SHA256))

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy or link a local file into the store once, and read it back.

        Raises NotFound if the local file is absent.
        """
        with as_store_error(path):
            try:
                source = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise NotFound(f"{local} is not there") from error

            def fill(temporary: str) -> FileDigest | None:
                if link and local_files.link(local, temporary, source):
                    return None
                return local_files.write(temporary, local_files.chunks(source), algorithm)

            with local_files.closing(source):
                return self._put(path, algorithm, fill)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> FileDigest:
        """Copy or link a file of the store to the local disk and measure it. Local errors have the kind "local"."""
        with as_store_error(path), self._reading(path) as source, as_store_error(local, "local"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)  # never opened for writing: it may be a second name of another file of the store
            read = _read_chunks(source, path)
            if link and local_files.link(self._path(path), local, source):
                return local_files.measure(read, algorithm)
            return local_files.write(local, read, algorithm)

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder; an absent one is fine. After a power loss the file stays removed."""
        with as_store_error(path):
            self._require_same_root()
            try:
                self._remove(local_files.parts(path))
            except FileNotFoundError:
                self._require_same_root()
            with contextlib.suppress(FileNotFoundError):
                atomic.flush_folder(os.path.dirname(self._path(path)))

    def sweep(self, folder: str) -> int:
        """Remove partial files that dead writers left in a folder; return the freed bytes."""
        with as_store_error(folder):
            self._require_same_root()
            try:
                with self._open_folder(local_files.parts(folder)) as fd:
                    return _sweep(fd, spare=f"{TEMPORARY}{self._token}-")
            except FileNotFoundError:
                return 0

    def evidence(self, path: str) -> str:
        """Flush the file, its folder and the folders above, and return the kind of evidence.

        The flush is repeated: another attempt or process may have written the file without a flush.
        """
        with as_store_error(path):
            with self._reading(path) as fd:
                os.fsync(fd)
            folder = os.path.dirname(self._path(path))
            atomic.flush_folder(folder)
            self._ensure_folder(folder)
        return self.traits.evidence

    def free_bytes(self) -> int | None:
        """Return the free bytes on the disk that holds the folder, or will hold it."""
        return local_files.free_bytes(self.root)

    def _path(self, path: str) -> str:
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        return os.path.join(self.root, *filter(None, path.split("/")))

    def _remove(self, names: Sequence[str]) -> None:
        """Remove a file, or a folder with nothing listed in it. Without names, remove the store's own folder."""
        if not names:
            os.rmdir(self.root)
            return
        *above, name = names
        with self._open_folder(above) as folder:
            if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                with local_files.open_subfolder(folder, (name,)) as fd:
                    _sweep(fd, links=True)
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _open_folder(self, names: Sequence[str]) -> Iterator[int]:
        """Open a folder of the store. The root's own path may contain links; below it none is followed."""
        if ".." in names:
            raise StoreError(f"{'/'.join(names)} leads out of the store")
        root = os.open(self.root, local_files.OPEN_FOLDER_FLAGS)
        with local_files.closing(root), local_files.open_subfolder(root, names) as fd:
            yield fd

    def _require_no_symlink(self, names: Sequence[str]) -> None:
        """Raise if a new file at this path would lie outside the store."""
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
            fd = opened.enter_context(self._open_folder(()))
            for name in names[:-1]:
                fd = opened.enter_context(local_files.open_subfolder(fd, (name,)))

    def _require_same_root(self) -> None:
        """Raise unless the root is still the folder first seen. A vanished mount leaves another folder, or none."""
        try:
            seen = os.stat(self.root)
        except FileNotFoundError:
            if self._root_identity is not None:
                raise StoreError(f"{self.root} is not there any more", "gone") from None
            return
        if self._root_identity not in {None, (seen.st_dev, seen.st_ino)}:
            raise StoreError(f"{self.root} is not the folder any more that it was", "gone")
        self._root_identity = (seen.st_dev, seen.st_ino)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[int]:
        try:
            *above, name = local_files.parts(path)
            with self._open_folder(above) as folder:
                fd = local_files.open_file(name, folder)
        except FileNotFoundError as error:
            self._require_same_root()
            raise NotFound(f"{path} is not there") from error
        with local_files.closing(fd):
            yield fd

    def _put(self, path: str, algorithm: str, fill: Callable[[str], FileDigest | None]) -> FileDigest:
        """Make a file. ``fill`` writes the temporary file and returns the expected measure, or None if it has none."""
        self._require_same_root()
        full = self._path(path)
        folder = os.path.dirname(full)
        self._require_no_symlink(local_files.parts(path))
        self._ensure_folder(folder)
        self._require_same_root()
        temporary = os.path.join(folder, f"{TEMPORARY}{self._token}-{next(self._numbers)}")
        try:
            passed = fill(temporary)
            measured = local_files.flush_and_digest(temporary, algorithm)
            if passed not in {None, measured}:
                raise StoreError(f"{path} reads back differently from what was written", "lied")
            local_files.link_into_place(temporary, full)
        finally:
            local_files.remove_temporary(temporary)
        return measured

    def _ensure_folder(self, folder: str) -> None:
        """Make a folder.

        Flush its name and those above once even if they exist: their maker may have died before its flush.
        """
        above = os.path.dirname(folder)
        if folder not in {self.root, above} and above not in self._flushed:
            self._ensure_folder(above)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder in self._flushed:
                return
        except FileNotFoundError:
            if above == folder:
                raise
            self._ensure_folder(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        try:
            atomic.flush_folder(above)
        except PermissionError:
            if folder.startswith(f"{self.root}/"):
                raise  # folders above the root may be unreadable, and this store did not make them
        self._flushed.add(folder)


def _sweep(folder: int, *, spare: str = "", links: bool = False) -> int:
    """Remove temporary files of an open folder; with ``links`` also everything that is neither a file nor a folder."""
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
    """List an open folder through its descriptor, so that no other folder can be listed by mistake."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    with local_files.closing(fd), os.scandir(fd) as found:
        yield found


def _read_chunks(fd: int, path: str) -> Iterator[bytes]:
    with as_store_error(path):
        yield from local_files.chunks(fd)
