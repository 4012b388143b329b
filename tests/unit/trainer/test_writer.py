"""How a file is written: past the page cache where the disk lets us, whole and exact in any case, linked where it is the same."""

import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil

import pytest
import xxhash

from supervisor.core import digest
from supervisor.trainer import writer
from supervisor.trainer.buffer import PAGE_BYTES, HostBuffer
from supervisor.trainer.writer import NewFile, write_folder

SIZES = [0, 1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 3 * PAGE_BYTES, 200_001]
DIRECT = getattr(os, "O_DIRECT", 0)


def pages_of(content):
    """Whole pages of memory whose end, after the content, holds something else."""
    size = -(-len(content) // PAGE_BYTES) * PAGE_BYTES
    memory = HostBuffer(max(size, PAGE_BYTES)).view[:size]
    memory[:] = b"\xff" * size
    memory[: len(content)] = content
    return memory


def random_bytes(size):
    return random.Random(size).randbytes(size)


@pytest.fixture
def write(tmp_path):
    def written(name, content, before=None):
        file = NewFile("piece", pages=pages_of(content), bytes=len(content), before=before)
        records = write_folder(tmp_path, name, [file], lambda found: ("seal", repr(sorted(found)).encode()))
        return tmp_path / name / "piece", records["piece"]

    return written


class Disk:
    """Notes how each write was done, and lets a test refuse or shorten it."""

    def __init__(self, monkeypatch, rule=lambda direct, size: size):
        self.writes, self.rule, self.real = [], rule, os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, descriptor, chunk, at):
        direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & DIRECT)
        allowed = self.rule(direct, len(chunk))
        self.writes.append((direct, len(chunk), at))
        if allowed is None:
            raise OSError(errno.EINVAL, "Invalid argument")
        return self.real(descriptor, chunk[:allowed], at)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_exactly_its_bytes_and_their_digest(write, size):
    content = random_bytes(size)
    path, record = write("step-1", content)
    assert path.read_bytes() == content
    assert record == (size, f"xxh3-128:{xxhash.xxh3_128(content).hexdigest()}")


@pytest.mark.parametrize("size", SIZES)
def test_without_the_fast_package_the_digest_is_sha256(write, monkeypatch, size):
    monkeypatch.setattr(writer, "preferred", lambda: digest.SHA256)
    content = random_bytes(size)
    assert write("step-1", content)[1] == (size, f"sha256:{hashlib.sha256(content).hexdigest()}")


@pytest.mark.parametrize("size", SIZES)
def test_a_disk_that_refuses_the_direct_way_when_asked_for_it_gets_the_usual_one(write, monkeypatch, size):
    real = fcntl.fcntl

    def refusing(descriptor, command, *rest):
        if command == fcntl.F_SETFL and rest[0] & DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, command, *rest)

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    disk = Disk(monkeypatch)
    content = random_bytes(size)
    path, (length, _) = write("step-1", content)
    assert (path.read_bytes(), length) == (content, size)
    assert not any(direct for direct, _, _ in disk.writes)


@pytest.mark.parametrize("size", SIZES)
def test_a_disk_that_refuses_a_direct_write_gets_a_usual_one(write, monkeypatch, size):
    disk = Disk(monkeypatch, lambda direct, asked: None if direct else asked)
    content = random_bytes(size)
    path, _ = write("step-1", content)
    assert path.read_bytes() == content
    assert sum(direct for direct, _, _ in disk.writes) <= 1, "after a refusal it is not tried again"


def test_an_invalid_argument_to_a_usual_write_is_an_error(write, monkeypatch, tmp_path):
    Disk(monkeypatch, lambda _direct, _size: None)
    with pytest.raises(OSError, match="Invalid argument"):
        write("step-1", random_bytes(9000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("part", [1, 511, PAGE_BYTES, PAGE_BYTES + 1])
def test_writes_that_take_only_a_part_are_gone_on_with(write, monkeypatch, size, part):
    disk = Disk(monkeypatch, lambda _direct, asked: min(asked, part))
    content = random_bytes(min(size, 300 * part))
    path, _ = write("step-1", content)
    assert path.read_bytes() == content
    assert all(at % PAGE_BYTES == 0 for direct, _, at in disk.writes if direct), "direct writes are aligned"


def test_a_disk_that_takes_nothing_is_an_error_and_not_an_endless_loop(write, monkeypatch):
    Disk(monkeypatch, lambda _direct, _size: 0)
    with pytest.raises(OSError, match="the disk took nothing"):
        write("step-1", random_bytes(9000))


def test_large_files_are_written_in_large_slices(write, monkeypatch):
    monkeypatch.setattr(writer, "SLICE_BYTES", 16 * PAGE_BYTES)
    disk = Disk(monkeypatch)
    content = random_bytes(50 * PAGE_BYTES + 7)
    path, _ = write("step-1", content)
    assert path.read_bytes() == content
    places = [at for _, size, at in disk.writes if size >= PAGE_BYTES]
    assert places == [0, 16 * PAGE_BYTES, 32 * PAGE_BYTES, 48 * PAGE_BYTES]


def test_memory_that_is_not_aligned_is_written_all_the_same(tmp_path):
    content = random_bytes(3 * PAGE_BYTES)
    memory = mmap.mmap(-1, 4 * PAGE_BYTES)
    pages = memoryview(memory)[7 : 7 + len(content)]
    pages[:] = content
    write_folder(tmp_path, "step-1", [NewFile("piece", pages=pages, bytes=len(content))], lambda _: ("seal", b""))
    assert (tmp_path / "step-1" / "piece").read_bytes() == content


def test_a_file_that_is_the_same_as_in_the_save_before_is_that_file(write):
    content = random_bytes(200_001)
    first, record = write("step-1", content)
    second, again = write("step-2", content, before=(first, record))
    assert again == record
    assert second.stat().st_ino == first.stat().st_ino
    first.unlink()
    assert second.read_bytes() == content


@pytest.mark.parametrize("place", [0, 100_000, 200_000])
def test_a_file_that_differs_in_one_bit_from_the_save_before_is_written(write, place):
    content = random_bytes(200_001)
    first, record = write("step-1", content)
    other = bytearray(content)
    other[place] ^= 1
    second, again = write("step-2", bytes(other), before=(first, record))
    assert again != record
    assert second.stat().st_ino != first.stat().st_ino
    assert (first.read_bytes(), second.read_bytes()) == (content, bytes(other))


def test_a_file_of_another_length_is_written(write):
    content = random_bytes(PAGE_BYTES + 10)
    first, record = write("step-1", content)
    second, _ = write("step-2", content[:-1], before=(first, record))
    assert second.read_bytes() == content[:-1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_links_are_refused_the_file_is_written(write, monkeypatch, code):
    content = random_bytes(5000)
    first, record = write("step-1", content)

    def refusing(*_arguments, **_options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refusing)
    second, again = write("step-2", content, before=(first, record))
    assert again == record
    assert second.stat().st_ino != first.stat().st_ino
    assert second.read_bytes() == content


def test_where_the_save_before_is_gone_the_file_is_written(write):
    content = random_bytes(5000)
    first, record = write("step-1", content)
    first.unlink()
    second, again = write("step-2", content, before=(first, record))
    assert again == record
    assert second.read_bytes() == content


def test_leftovers_of_earlier_lives_are_removed_and_nothing_else(tmp_path):
    for name in (".tmp-000000005-1", "step-000000004-1", "damaged-step-000000003-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state-00000.safetensors").write_bytes(b"half")
    writer.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-000000003-1", "step-000000004-1"]


def test_a_staging_folder_that_somebody_removed_is_made_again(tmp_path):
    staging = tmp_path / "session" / "staging"
    write_folder(staging, "step-1", [NewFile("piece", [memoryview(b"abc")])], lambda _: ("seal", b""))
    shutil.rmtree(tmp_path / "session")
    write_folder(staging, "step-2", [NewFile("piece", [memoryview(b"abc")])], lambda _: ("seal", b""))
    assert [path.name for path in staging.iterdir()] == ["step-2"]
