"""Writes a checkpoint's folder so that it is either whole under its final name or not there at all.

The order is: every file whole and flushed, then checkpoint.json, then the folder flushed, renamed, and its parent flushed.
A crash at any point leaves a ``.tmp-`` folder at worst, which the next life removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from supervisor.core.digest import Digest, digest_of, preferred
from supervisor.core.values import dataclass
from supervisor.trainer.buffer import PAGE_BYTES
from supervisor.trainer.threads import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

TEMPORARY = ".tmp-"
# Each call is one hand-over of the interpreter lock: few and large, so that the loop is not asked for it all the time.
SLICE_BYTES = 64 * 1024 * 1024

Record = tuple[int, str]  # length and digest


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write: ``chunks`` one after the other.

    ``pages``: instead of chunks, memory of whole pages of which the first ``bytes`` count: written past the page cache.
    ``before``: a file that may hold the same; with an equal record it is linked instead of written.
    ``whole``: a finished file with its record, which is linked, or copied where the disk has no links.
    """

    name: str
    chunks: Iterable[memoryview] = ()
    pages: memoryview | None = None
    bytes: int = 0
    before: tuple[Path, Record] | None = None
    whole: tuple[Path, Record] | None = None


def write_folder(
    staging: Path,
    name: str,
    files: Sequence[NewFile],
    seal: Callable[[Mapping[str, Record]], tuple[str, bytes]],
    meanwhile: Callable[[], Sequence[NewFile]] = tuple,
) -> dict[str, Record]:
    """Write ``files`` into ``staging/name`` and return their lengths and digests.

    While they are written, the files that ``meanwhile()`` makes are written too. ``seal(records)`` gives the name and
    content of the file written last, from the lengths and digests of the others. OSError leaves nothing behind, as far as
    the disk lets us.
    """
    temporary = staging / f"{TEMPORARY}{name.removeprefix('step-')}"
    try:
        _make(temporary)
        records = _write_both(temporary, files, meanwhile)
        last, content = seal(records)
        records[last] = _write_file(temporary, NewFile(last, [memoryview(content)]))
        _flush_folder(temporary)
        temporary.rename(staging / name)
        _flush_folder(staging)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(staging / name, ignore_errors=True)  # its name may not be flushed: it is not staged
        raise
    return records


def _make(temporary: Path) -> None:
    """Make the folder, and the staging folder around it where a cleaner has removed that."""
    try:
        temporary.mkdir()
    except FileNotFoundError:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()


def remove_leftovers(staging: Path) -> None:
    """Remove the half-written folders of earlier lives; nobody else writes there."""
    with os.scandir(staging) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY):
                shutil.rmtree(entry.path, ignore_errors=True)


def _write_both(
    folder: Path, files: Sequence[NewFile], meanwhile: Callable[[], Sequence[NewFile]]
) -> dict[str, Record]:
    """Write the large files on a thread and the small ones here: a small state takes as long as its tensors alone."""
    records: dict[str, Record] = {}
    failed: list[BaseException] = []

    def write() -> None:
        try:
            records.update((file.name, _write_file(folder, file)) for file in files)
        except BaseException as error:  # noqa: BLE001  # it is raised on the thread that asked
            failed.append(error)

    thread = started(write, "supervisor-pieces")
    try:
        small = {file.name: _write_file(folder, file) for file in meanwhile()}
    finally:
        if thread is not None:
            thread.join()
    if thread is None:
        write()
    if failed:
        raise failed[0]
    return records | small


def _write_file(folder: Path, file: NewFile) -> Record:
    if file.whole is not None:
        return _write_whole(folder / file.name, *file.whole)
    if file.before is not None and file.pages is not None:
        path, record = file.before
        if (file.bytes, digest_of((file.pages[: file.bytes],), preferred())) == record and _linked(
            path, folder / file.name
        ):
            return record
    digest, size = Digest(preferred()), 0
    descriptor = os.open(folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if file.pages is not None:
            _write_pages(descriptor, file.pages, file.bytes, digest)
            size = file.bytes
        for chunk in file.chunks:
            digest.update(chunk)
            _write_all(descriptor, chunk, size)
            size += len(chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, str(digest)


def _write_whole(to: Path, finished: Path, record: Record) -> Record:
    if not _linked(finished, to):
        shutil.copyfile(finished, to)
    with to.open("rb") as file:
        os.fsync(file.fileno())
    return record


def _write_pages(descriptor: int, pages: memoryview, size: int, digest: Digest) -> None:
    """Write whole pages directly from memory to the disk, and cut the file to ``size`` afterwards.

    Past the page cache: a fifth of the processor time, no memory of a small machine filled with pages to be written,
    and durable sooner (``python -m benchmarks.checkpoint``). A file system that has no such way is written as usual.
    """
    _write_directly(descriptor, on=True)
    for begin in range(0, len(pages), SLICE_BYTES):
        part = pages[begin : begin + SLICE_BYTES]
        digest.update(part[: max(0, size - begin)])
        _write_all(descriptor, part, begin)
    if len(pages) > size:
        os.ftruncate(descriptor, size)


def _write_all(descriptor: int, chunk: memoryview, at: int) -> None:
    while len(chunk):
        try:
            written = os.pwrite(descriptor, chunk, at)  # a full disk may take a part and say so only at the next write
        except OSError as error:
            if error.errno != errno.EINVAL or not _write_directly(descriptor, on=False):
                raise
            continue
        if written <= 0:
            raise OSError(errno.EIO, "the disk took nothing")
        chunk, at = chunk[written:], at + written
        if at % PAGE_BYTES:
            _write_directly(descriptor, on=False)  # the rest is not aligned any more


def _write_directly(descriptor: int, *, on: bool) -> bool:
    """Switch writing past the page cache on or off; return whether that changed anything."""
    flag = getattr(os, "O_DIRECT", 0)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    wanted = flags | flag if on else flags & ~flag
    if wanted == flags:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, wanted)
    except OSError:
        return False  # this file system has no such way (tmpfs, FUSE)
    return True


def _linked(path: Path, to: Path) -> bool:
    try:
        os.link(path, to)
    except OSError:
        return False  # gone meanwhile, or no links here: it is written
    return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
