"""A store on a mounted drive, as one worker process uses it: no links, no renames, no temporary names, nothing overwritten.

A file is created under its own name, written whole, flushed, closed and read back; that only hands it to the drive's client,
and ``evidence`` is what the client says about its upload. Anything here may hang for as long as the drive does.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, TypeVar

from supervisor.core.digest import SHA256
from supervisor.core.ports import Measured, Missing, StoreError, Taken, Traits, Unconfirmed
from supervisor.stores import disk, uploads
from supervisor.stores.failures import GONE, translated
from supervisor.stores.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from supervisor.core.ports import Entry
    from supervisor.stores.held import HeldMount
    from supervisor.stores.mounts import Mount

T = TypeVar("T")
EMPTIED_BYTES_MIN = 64 * 1024  # of what is smaller the trash may hold a lot
CACHE_RESERVE_BYTES = 1024 * 1024
FIRST_LOOK_S, LOOK_EVERY_S = 0.05, 0.5
LOOKS_MAX = 40


class DriveStore:
    """Runs on a drive. All laws of ``core.ports.Store`` hold; see there.

    ``tick`` is called again and again while something long goes on. ``marks``: the digest of each run's record when it was
    first seen, which it must keep; ``confirmed``: the paths that the client once called uploaded; ``choose`` finds the client.
    """

    def __init__(
        self,
        held: HeldMount,
        tick: Callable[[], None] = lambda: None,
        choose: Callable[[Mount, int], uploads.Uploads] = uploads.choose,
    ) -> None:
        self.held, self.tick, self._choose = held, tick, choose
        self.confirmed: set[str] = set()
        self.left_out: set[str] = set()
        self._records = Records(held, lambda path: self._read(*held.proved(), path))
        self.marks = self._records.marks
        self._uploads: tuple[int, uploads.Uploads] | None = None

    @property
    def traits(self) -> Traits:
        """The kind of evidence is what the client answers with now."""
        with self._at(self.held.root) as (top, _):
            kind = self._client(top).kind
        return Traits(where=self.held.root, place="the mounted drive", evidence=kind, mounted=True)

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names in a folder; an absent one has none, but only where the drive is proved to be there."""
        with self._at(folder) as (top, way):
            self._records.see_once(folder)
            try:
                with self._inside(top, way, disk.parts(folder)) as at:
                    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            except FileNotFoundError:
                self.held.proved()
                return ()
            with disk.closing(fd):
                self._see_here(fd, folder)
                with os.scandir(fd) as found:
                    names = list(self._ticking(found))
                    entries = [disk.entry(each) for each in names]
                    missing = [each for each, entry in zip(names, entries, strict=True) if entry is None]
                    disk.note_odd(self.left_out, folder, missing)
        return tuple(sorted(filter(None, entries), key=lambda each: each.name))

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        with self._at(path) as (top, way):
            self._records.see_once(path)
            body = self._read(top, way, path)
            self._records.learn(path, body)
            return body

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once, whole."""
        self._put(path, (body,), SHA256, len(body))
        self._records.wrote(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:  # noqa: ARG002  # the port has it
        """Copy a local file into the store once, and read it back; there are no links on a drive. Missing: the local one is."""
        with translated(local, "local"):
            try:
                source = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise Missing(f"{local} is not there") from error
        with disk.closing(source):
            length, free = os.fstat(source).st_size, self.free_bytes()
            if free is not None and length > free:
                words = f"{path} has {length / 1e6:,.1f} MB, and there is room for {free / 1e6:,.1f} MB"
                raise StoreError(words, "full")
            return self._put(path, _translated_chunks(source, local, "local"), algorithm, length)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:  # noqa: ARG002  # the port has it
        """Copy a file of the store to the local disk, measuring it. What fails here is of kind "local"."""
        with self._at(path) as (top, way):
            self._records.see_once(path)
            with self._reading(top, way, path) as source, translated(local, "local"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(local)  # never written into, because it may be a second name of another file
                return disk.write(local, self._ticking(_translated_chunks(source, path)), algorithm)

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder; absent is fine. A large one is emptied first: the trash uses up quota."""
        with self._at(path) as (top, way):
            self._records.see(path)
            try:
                with self._folder(top, way, path, make=False) as (folder, name):
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        self._unlink_links(folder, name)
                        os.rmdir(name, dir_fd=folder)
                    else:
                        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode) and found.st_size >= EMPTIED_BYTES_MIN:
                            self._empty(top, folder, name, path)
                        os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                self.held.proved()
        self.confirmed.discard(path)
        self._records.forget(path)

    def sweep(self, folder: str) -> int:
        """Nothing lies here under a temporary name."""
        with self._at(folder):
            return 0

    def evidence(self, path: str) -> str:
        """Return the client's word that a file is uploaded. Raises Unconfirmed until there is one."""
        with self._at(path) as (top, way):
            self._records.see_once(path)
            kind = self._evidence(top, way, path)
        self.confirmed.add(path)
        return kind

    def free_bytes(self) -> int | None:
        """Return the room on the drive, or on the disk of the client's cache if that is less."""
        with self._at(self.held.root) as (top, _):
            room, cache = os.fstatvfs(top), self._client(top).cache()
        rooms = [room.f_bavail * room.f_frsize if room.f_blocks else None, cache and disk.free_bytes(cache)]
        return min((each for each in rooms if isinstance(each, int)), default=None)

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[tuple[int, str]]:
        """Prove the mount; yield its root's descriptor and the store's way below it."""
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        with translated(path):
            try:
                yield self.held.proved()
            except OSError as error:
                if error.errno in GONE:
                    self.held.release()
                raise

    def _put(self, path: str, chunks: Iterable[bytes], algorithm: str, length: int) -> Measured:
        with self._at(path) as (top, way):
            self._see_cache(top, path, length)
            self._records.see(path)
            self.confirmed.discard(path)
            with self._folder(top, way, path, make=True) as (folder, name):
                try:
                    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
                except FileExistsError as error:
                    raise Taken(f"{path} exists already") from error
                try:
                    with disk.closing(fd):
                        passed = disk.measure(self._ticking(disk.written(fd, chunks)), algorithm)
                        os.fsync(fd)
                    measured = self._read_back(folder, name, algorithm)
                    _compare(path, passed, measured)
                except BaseException:
                    self._remove_part(top, folder, name)
                    raise
                return measured

    def _see_cache(self, top: int, path: str, length: int) -> None:
        """Write nothing that fills the client's cache up, because then it may hang instead of saying so (rclone does)."""
        cache = self._client(top).cache()
        free = None if cache is None else disk.free_bytes(cache)
        if free is not None and free < length + CACHE_RESERVE_BYTES:
            raise StoreError(f"{path} does not fit on the disk of the drive's cache: {free / 1e6:,.1f} MB free", "full")

    def _read_back(self, folder: int, name: str, algorithm: str) -> Measured:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with disk.closing(fd):
            disk.drop_from_memory(fd)
            return disk.measure(self._ticking(disk.chunks(fd)), algorithm)

    def _read(self, top: int, way: str, path: str) -> bytes:
        with self._reading(top, way, path) as fd:
            return b"".join(self._ticking(disk.chunks(fd, disk.READ_BYTES_MAX)))

    @contextlib.contextmanager
    def _reading(self, top: int, way: str, path: str) -> Iterator[int]:
        try:
            *above, name = disk.parts(path)
            with self._inside(top, way, above) as folder:
                fd = disk.open_file(name, folder)
        except FileNotFoundError as error:
            self.held.proved()
            raise Missing(f"{path} is not there") from error
        with disk.closing(fd):
            self._see_here(fd, path)
            yield fd

    @contextlib.contextmanager
    def _inside(self, top: int, way: str, names: Sequence[str]) -> Iterator[int]:
        """Open a folder of the store. Its own place may lie behind a shortcut of the drive; below it no link is followed."""
        root = os.open(way or ".", disk.PASSING, dir_fd=top)
        with disk.closing(root), disk.below(root, names) as fd:
            yield fd

    @contextlib.contextmanager
    def _folder(self, top: int, way: str, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """Open the folder of a path, made where needed one level at a time below the mount; yield it and the name."""
        *above, name = disk.parts(path)
        if make:
            try:
                with self._inside(top, way, above):
                    pass
            except FileNotFoundError:
                self._make(top, way, above)
        with self._inside(top, way, above) as fd:
            self._see_here(fd, path)
            yield fd, name

    def _make(self, top: int, way: str, names: Sequence[str]) -> None:
        for depth in range(1, len(disk.parts(way)) + 1):
            with contextlib.suppress(FileExistsError):
                os.mkdir("/".join(disk.parts(way)[:depth]), dir_fd=top)
        for depth, name in enumerate(names):
            with self._inside(top, way, names[:depth]) as above, contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)

    @staticmethod
    def _unlink_links(above: int, name: str) -> None:
        """Remove the links in a folder that is to go: nobody else does, because none is listed."""
        with disk.below(above, (name,)) as fd:
            inside = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            with disk.closing(inside), os.scandir(inside) as found:
                for each in found:
                    if each.is_symlink():
                        os.unlink(each.name, dir_fd=inside)

    def _see_here(self, fd: int, path: str) -> None:
        if not self.held.is_here(fd):
            raise StoreError(f"{path} leads away from the drive", "gone")

    def _empty(self, top: int, folder: int, name: str, path: str) -> None:
        """Take a file's content away and wait a while until the cloud has that; one that cannot be is removed as it is."""
        with contextlib.suppress(OSError):
            self._truncate(top, folder, name)
            self.confirmed.discard(path)
            self._wait_for_upload(path)

    def _truncate(self, top: int, folder: int, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with disk.closing(fd):
            os.write(fd, self._client(top).remains)
            os.fsync(fd)

    def _remove_part(self, top: int, folder: int, name: str) -> None:
        """Remove our own half-written file, emptied first as in ``delete``. One that stays is one that no manifest names."""
        with contextlib.suppress(OSError):
            self._truncate(top, folder, name)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)

    def _wait_for_upload(self, path: str) -> None:
        for look in range(LOOKS_MAX):
            try:
                self._evidence(*self.held.proved(), path)
            except StoreError as answer:
                if not (isinstance(answer, Unconfirmed) and answer.possible):
                    return
            else:
                return
            self.tick()
            time.sleep(min(LOOK_EVERY_S, FIRST_LOOK_S * 2**look))

    def _evidence(self, top: int, way: str, path: str) -> str:
        with self._reading(top, way, path) as fd:

            def chunks() -> Iterator[bytes]:
                os.lseek(fd, 0, os.SEEK_SET)
                return self._ticking(disk.chunks(fd))

            length = os.fstat(fd).st_size
            file = uploads.Written(fd, _below(way, path), length, path in self.confirmed, chunks)
            return self._client(top).see(file)

    def _client(self, top: int) -> uploads.Uploads:
        if self._uploads is None or self._uploads[0] != self.held.opened:
            self._uploads = (self.held.opened, self._choose(self.held.mount, top))
        return self._uploads[1]

    def _ticking(self, parts: Iterable[T]) -> Iterator[T]:
        for part in parts:
            self.tick()
            yield part


def _compare(path: str, written: Measured, read: Measured) -> None:
    if written != read:
        raise StoreError(f"{path} reads back differently from what was written", "lied")


def _below(way: str, path: str) -> str:
    return os.path.normpath("/".join((way, *filter(None, path.split("/")))))


def _translated_chunks(fd: int, path: str, kind: str = "") -> Iterator[bytes]:
    with translated(path, kind):
        yield from disk.chunks(fd)
