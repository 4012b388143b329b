"""A store on a mounted drive inside one worker process: no links, no renames, no temporary names, no overwriting.

A file is created under its final name, written, flushed, closed and read back. That only hands it to the drive's
client. ``evidence`` returns the client's upload status. Any operation may hang for as long as the drive does.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, TypeVar

from supervisor.core.digest import SHA256
from supervisor.core.ports import AlreadyExists, FileDigest, NotConfirmed, NotFound, StoreError, StoreTraits
from supervisor.stores.local import files as local_files
from supervisor.stores.mounted.identity import MountIdentity
from supervisor.stores.os_errors import MOUNT_GONE_ERRNOS, as_store_error
from supervisor.stores.upload_status import status as upload_status
from supervisor.stores.upload_status.written_file import WrittenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from supervisor.core.ports import FolderEntry
    from supervisor.stores.mounted.guard import MountGuard
    from supervisor.stores.mounted.mounts import Mount

T = TypeVar("T")
EMPTIED_BYTES_MIN = 64 * 1024  # the trash may hold many smaller files
CACHE_RESERVE_BYTES = 1024 * 1024
FIRST_POLL_S, POLL_INTERVAL_S = 0.05, 0.5
POLLS_MAX = 40


class DriveStore:
    """Store on a drive. It fulfils the contract of ``core.ports.Store``.

    Args:
        guard: verifies the mount before each operation.
        tick: called repeatedly during a long operation.
        choose: finds the drive's client.

    ``record_digests`` holds the digest of each run's record when first read; the record must keep it. ``confirmed``
    holds the paths that the client has reported as uploaded.
    """

    def __init__(
        self,
        guard: MountGuard,
        tick: Callable[[], None] = lambda: None,
        choose: Callable[[Mount, int], upload_status.UploadStatus] = upload_status.detect,
    ) -> None:
        self.guard, self.tick, self._choose = guard, tick, choose
        self.confirmed: set[str] = set()
        self.left_out: set[str] = set()
        self._identity = MountIdentity(guard, lambda path: self._read(*guard.verified_root(), path))
        self.record_digests = self._identity.record_digests
        self._upload_client: tuple[int, upload_status.UploadStatus] | None = None

    @property
    def traits(self) -> StoreTraits:
        """Traits with the kind of evidence that the client gives now."""
        with self._verified_mount(self.guard.root) as (mount_fd, _):
            kind = self._client(mount_fd).kind
        return StoreTraits(where=self.guard.root, place="the mounted drive", evidence=kind, mounted=True)

    def list(self, folder: str) -> Sequence[FolderEntry]:
        """Return the names in a folder. An absent folder is empty only if the mount is verified."""
        with self._verified_mount(folder) as (mount_fd, subpath):
            self._identity.require_unchanged_once(folder)
            try:
                with self._open_folder(mount_fd, subpath, local_files.parts(folder)) as at:
                    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            except FileNotFoundError:
                self.guard.verified_root()
                return ()
            with local_files.closing(fd):
                self._require_on_mount(fd, folder)
                with os.scandir(fd) as found:
                    names = list(self._with_ticks(found))
                    entries = [local_files.folder_entry(each) for each in names]
                    missing = [each for each, entry in zip(names, entries, strict=True) if entry is None]
                    local_files.note_special_files(self.left_out, folder, missing)
        return tuple(sorted(filter(None, entries), key=lambda each: each.name))

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        with self._verified_mount(path) as (mount_fd, subpath):
            self._identity.require_unchanged_once(path)
            body = self._read(mount_fd, subpath, path)
            self._identity.record_read(path, body)
            return body

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once, completely."""
        self._put(path, (body,), SHA256, len(body))
        self._identity.record_written(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> FileDigest:  # noqa: ARG002  # the port has it
        """Copy a local file into the store once, and read it back. Raises NotFound if the local file is absent."""
        with as_store_error(local, "local"):
            try:
                source = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise NotFound(f"{local} is not there") from error
        with local_files.closing(source):
            length, free = os.fstat(source).st_size, self.free_bytes()
            if free is not None and length > free:
                words = f"{path} has {length / 1e6:,.1f} MB, and there is room for {free / 1e6:,.1f} MB"
                raise StoreError(words, "full")
            return self._put(path, _read_chunks(source, local, "local"), algorithm, length)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> FileDigest:  # noqa: ARG002  # the port has it
        """Copy a file of the store to the local disk and measure it. Local errors have the kind "local"."""
        with self._verified_mount(path) as (mount_fd, subpath):
            self._identity.require_unchanged_once(path)
            with self._reading(mount_fd, subpath, path) as source, as_store_error(local, "local"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(local)  # never opened for writing: it may be a second name of another file
                return local_files.write(local, self._with_ticks(_read_chunks(source, path)), algorithm)

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder; an absent one is fine.

        A large file is truncated first: trash counts as used quota.
        """
        with self._verified_mount(path) as (mount_fd, subpath):
            self._identity.require_unchanged(path)
            try:
                with self._parent_folder(mount_fd, subpath, path, make=False) as (folder, name):
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        self._unlink_links(folder, name)
                        os.rmdir(name, dir_fd=folder)
                    else:
                        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode) and found.st_size >= EMPTIED_BYTES_MIN:
                            self._empty(mount_fd, folder, name, path)
                        os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                self.guard.verified_root()
        self.confirmed.discard(path)
        self._identity.forget(path)

    def sweep(self, folder: str) -> int:
        """Return 0: a drive has no temporary names."""
        with self._verified_mount(folder):
            return 0

    def evidence(self, path: str) -> str:
        """Return the kind of evidence for an uploaded file. Raises NotConfirmed until the client reports it."""
        with self._verified_mount(path) as (mount_fd, subpath):
            self._identity.require_unchanged_once(path)
            kind = self._evidence(mount_fd, subpath, path)
        self.confirmed.add(path)
        return kind

    def free_bytes(self) -> int | None:
        """Return the free bytes on the drive, or on the disk of the client's cache if those are fewer."""
        with self._verified_mount(self.guard.root) as (mount_fd, _):
            room, cache = os.fstatvfs(mount_fd), self._client(mount_fd).cache()
        rooms = [room.f_bavail * room.f_frsize if room.f_blocks else None, cache and local_files.free_bytes(cache)]
        return min((each for each in rooms if isinstance(each, int)), default=None)

    @contextlib.contextmanager
    def _verified_mount(self, path: str) -> Iterator[tuple[int, str]]:
        """Verify the mount; yield its root's descriptor and the store's path below it."""
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        with as_store_error(path):
            try:
                yield self.guard.verified_root()
            except OSError as error:
                if error.errno in MOUNT_GONE_ERRNOS:
                    self.guard.release()
                raise

    def _put(self, path: str, chunks: Iterable[bytes], algorithm: str, length: int) -> FileDigest:
        with self._verified_mount(path) as (mount_fd, subpath):
            self._require_cache_space(mount_fd, path, length)
            self._identity.require_unchanged(path)
            self.confirmed.discard(path)
            with self._parent_folder(mount_fd, subpath, path, make=True) as (folder, name):
                try:
                    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
                except FileExistsError as error:
                    raise AlreadyExists(f"{path} exists already") from error
                try:
                    with local_files.closing(fd):
                        passed = local_files.measure(self._with_ticks(local_files.write_through(fd, chunks)), algorithm)
                        os.fsync(fd)
                    measured = self._read_back(folder, name, algorithm)
                    _compare(path, passed, measured)
                except BaseException:
                    self._remove_partial(mount_fd, folder, name)
                    raise
                return measured

    def _require_cache_space(self, mount_fd: int, path: str, length: int) -> None:
        """Reject a write that would fill the client's cache.

        With a full cache the client may hang instead of failing (rclone does).
        """
        cache = self._client(mount_fd).cache()
        free = None if cache is None else local_files.free_bytes(cache)
        if free is not None and free < length + CACHE_RESERVE_BYTES:
            raise StoreError(f"{path} does not fit on the disk of the drive's cache: {free / 1e6:,.1f} MB free", "full")

    def _read_back(self, folder: int, name: str, algorithm: str) -> FileDigest:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with local_files.closing(fd):
            local_files.drop_from_memory(fd)
            return local_files.measure(self._with_ticks(local_files.chunks(fd)), algorithm)

    def _read(self, mount_fd: int, subpath: str, path: str) -> bytes:
        with self._reading(mount_fd, subpath, path) as fd:
            return b"".join(self._with_ticks(local_files.chunks(fd, local_files.READ_BYTES_MAX)))

    @contextlib.contextmanager
    def _reading(self, mount_fd: int, subpath: str, path: str) -> Iterator[int]:
        try:
            *above, name = local_files.parts(path)
            with self._open_folder(mount_fd, subpath, above) as folder:
                fd = local_files.open_file(name, folder)
        except FileNotFoundError as error:
            self.guard.verified_root()
            raise NotFound(f"{path} is not there") from error
        with local_files.closing(fd):
            self._require_on_mount(fd, path)
            yield fd

    @contextlib.contextmanager
    def _open_folder(self, mount_fd: int, subpath: str, names: Sequence[str]) -> Iterator[int]:
        """Open a folder of the store.

        The store's own path may contain a shortcut of the drive; below it no link is followed.
        """
        root = os.open(subpath or ".", local_files.OPEN_FOLDER_FLAGS, dir_fd=mount_fd)
        with local_files.closing(root), local_files.open_subfolder(root, names) as fd:
            yield fd

    @contextlib.contextmanager
    def _parent_folder(self, mount_fd: int, subpath: str, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """Open the parent folder of a path and yield it with the name.

        With ``make``, create missing folders below the mount.
        """
        *above, name = local_files.parts(path)
        if make:
            try:
                with self._open_folder(mount_fd, subpath, above):
                    pass
            except FileNotFoundError:
                self._make_folders(mount_fd, subpath, above)
        with self._open_folder(mount_fd, subpath, above) as fd:
            self._require_on_mount(fd, path)
            yield fd, name

    def _make_folders(self, mount_fd: int, subpath: str, names: Sequence[str]) -> None:
        for depth in range(1, len(local_files.parts(subpath)) + 1):
            with contextlib.suppress(FileExistsError):
                os.mkdir("/".join(local_files.parts(subpath)[:depth]), dir_fd=mount_fd)
        for depth, name in enumerate(names):
            with self._open_folder(mount_fd, subpath, names[:depth]) as above, contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)

    @staticmethod
    def _unlink_links(above: int, name: str) -> None:
        """Remove the links in a folder that is being deleted. No listing shows them, so no other code removes them."""
        with local_files.open_subfolder(above, (name,)) as fd:
            inside = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            with local_files.closing(inside), os.scandir(inside) as found:
                for each in found:
                    if each.is_symlink():
                        os.unlink(each.name, dir_fd=inside)

    def _require_on_mount(self, fd: int, path: str) -> None:
        if not self.guard.is_on_mount(fd):
            raise StoreError(f"{path} leads away from the drive", "gone")

    def _empty(self, mount_fd: int, folder: int, name: str, path: str) -> None:
        """Truncate a file and wait a limited time for the upload of that.

        A file that cannot be truncated is removed as it is.
        """
        with contextlib.suppress(OSError):
            self._truncate(mount_fd, folder, name)
            self.confirmed.discard(path)
            self._wait_for_upload(path)

    def _truncate(self, mount_fd: int, folder: int, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with local_files.closing(fd):
            os.write(fd, self._client(mount_fd).truncated_content)
            os.fsync(fd)

    def _remove_partial(self, mount_fd: int, folder: int, name: str) -> None:
        """Truncate and remove our own partial file. No manifest names a file that cannot be removed."""
        with contextlib.suppress(OSError):
            self._truncate(mount_fd, folder, name)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)

    def _wait_for_upload(self, path: str) -> None:
        for attempt in range(POLLS_MAX):
            try:
                self._evidence(*self.guard.verified_root(), path)
            except StoreError as answer:
                if not (isinstance(answer, NotConfirmed) and answer.possible):
                    return
            else:
                return
            self.tick()
            time.sleep(min(POLL_INTERVAL_S, FIRST_POLL_S * 2**attempt))

    def _evidence(self, mount_fd: int, subpath: str, path: str) -> str:
        with self._reading(mount_fd, subpath, path) as fd:

            def chunks() -> Iterator[bytes]:
                os.lseek(fd, 0, os.SEEK_SET)
                return self._with_ticks(local_files.chunks(fd))

            length = os.fstat(fd).st_size
            file = WrittenFile(fd, _below(subpath, path), length, path in self.confirmed, chunks)
            return self._client(mount_fd).check(file)

    def _client(self, mount_fd: int) -> upload_status.UploadStatus:
        if self._upload_client is None or self._upload_client[0] != self.guard.opened:
            self._upload_client = (self.guard.opened, self._choose(self.guard.mount, mount_fd))
        return self._upload_client[1]

    def _with_ticks(self, parts: Iterable[T]) -> Iterator[T]:
        for part in parts:
            self.tick()
            yield part


def _compare(path: str, written: FileDigest, read: FileDigest) -> None:
    if written != read:
        raise StoreError(f"{path} reads back differently from what was written", "lied")


def _below(subpath: str, path: str) -> str:
    return os.path.normpath("/".join((subpath, *filter(None, path.split("/")))))


def _read_chunks(fd: int, path: str, kind: str = "") -> Iterator[bytes]:
    with as_store_error(path, kind):
        yield from local_files.chunks(fd)
