"""Files that are whole under their name or absent."""

import os
import stat
from pathlib import Path

import pytest

from supervisor.engine import atomic


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize("unique", [False, True])
def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path, unique):
    for body in (b"first and long", b"second"):
        atomic.replace(tmp_path / "file", body, unique=unique)
        assert (tmp_path / "file").read_bytes() == body
    assert names(tmp_path) == ["file"]


def write_and_fail(path: Path, *, unique: bool) -> None:
    with atomic.writing(path, unique=unique) as file:
        file.write(b"new")
        raise OSError(28, "full")


@pytest.mark.parametrize(("unique", "left"), [(False, [".new-file", "file"]), (True, ["file"])])
def test_an_error_leaves_the_file_as_it_was(tmp_path, unique, left):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        write_and_fail(tmp_path / "file", unique=unique)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == left
    atomic.replace(tmp_path / "file", b"new", unique=unique)  # what an error left is no hindrance
    assert names(tmp_path) == ["file"]


def test_what_is_flushed_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    seen = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(names(tmp_path)), real(fd))[1])
    atomic.replace(tmp_path / "kept", b"x", flush=True)
    atomic.create(tmp_path / "made", b"x", flush=True)
    assert [("kept" in each, "made" in each) for each in seen] == [(False, False), (True, False)]
    atomic.replace(tmp_path / "kept", b"y")
    assert len(seen) == 2


def test_a_private_file_is_readable_by_its_owner_only(tmp_path):
    atomic.replace(tmp_path / "replaced", b"x", private=True)
    atomic.create(tmp_path / "created", b"x")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)} == {0o600}


def test_the_first_to_create_a_file_wins(tmp_path):
    atomic.create(tmp_path / "file", b"first")
    atomic.create(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_a_lock_has_one_holder_until_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    assert not atomic.is_locked(path)  # there is none
    mine, other = atomic.open_lock(path), atomic.open_lock(path)
    assert atomic.lock(mine)
    assert not atomic.lock(other)
    assert not atomic.lock(other, shared=True)
    assert atomic.is_locked(path)
    os.close(mine)
    assert not atomic.is_locked(path)
    assert atomic.lock(other, wait=True)
    os.close(other)


def test_a_shared_lock_is_held_by_several(tmp_path):
    path = tmp_path / "lock"
    one, two, third = (atomic.open_lock(path) for _ in range(3))
    assert atomic.lock(one, shared=True)
    assert atomic.lock(two, shared=True)
    assert not atomic.lock(third)
    for each in (one, two, third):
        os.close(each)
