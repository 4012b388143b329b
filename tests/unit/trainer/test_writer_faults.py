"""A checkpoint's folder is whole or not there, whatever the disk or the machine does at whichever call (I16, I19)."""

import errno
import os
from array import array
from pathlib import Path

import pytest

from supervisor.trainer import folder, writer
from supervisor.trainer.buffer import HostBuffer
from supervisor.trainer.folder import Draft, read
from supervisor.trainer.layout import plan
from supervisor.trainer.snapshot import Snapshot, direct_chunks
from supervisor.trainer.state import State
from supervisor.trainer.writer import NewFile

CALLS = ("open", "pwrite", "ftruncate", "fsync", "close", "mkdir", "rename", "link")
NAME = "step-000000005-1"
FIRST = "state-00000.safetensors"


@pytest.fixture
def save(tmp_path, holder):
    weights = array("d", range(2000))
    staging = tmp_path / "staging"
    staging.mkdir()
    before = {}  # the first piece is linked from the folder of a save before, once there is one

    def written():
        captured = State({"model": holder({"weights": weights})}).captured()
        layout = plan(captured.leaves, piece_bytes_max=6000)
        snapshot = Snapshot(layout, captured.leaves, captured.values)  # a forked child has none of its parent's buffers
        snapshot.take(captured.values)
        files = [
            NewFile(each.name, pages=snapshot.bytes_of(each), bytes=each.bytes, before=before.get(each.name))
            for each in layout.pieces
        ]
        draft = Draft(5, 9, None, captured.text, captured.generators, [], {}, {}, layout.split)
        return folder.write(staging, NAME, draft, files)

    records = written()
    (staging / NAME).rename(tmp_path / "before")
    before[FIRST] = (tmp_path / "before" / FIRST, records[FIRST])
    written.staging = staging
    return written


class Counted:
    """Wraps the system calls that a save makes; the n-th one goes wrong in the given way."""

    def __init__(self, monkeypatch, wrong_at=0, wrong=None):
        self.count = 0
        self.went_wrong = ""
        for name in CALLS:
            real = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *args, real=real, name=name, **kw: self.call(real, name, args, kw))
        self.wrong_at, self.wrong = wrong_at, wrong

    def call(self, real, name, args, kw):
        self.count += 1
        if self.count == self.wrong_at:
            self.went_wrong = name
            return self.wrong(real, name, args, kw)
        return real(*args, **kw)


def calls_of_a_save(save):
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        save()
    (save.staging / NAME).rename(save.staging.parent / "whole")
    return counted.count


def place_of_link(save):
    names = []
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        real = counted.call
        counted.call = lambda call, name, args, kw: (names.append(name), real(call, name, args, kw))[1]
        save()
    (save.staging / NAME).rename(save.staging.parent / "traced")
    return names.index("link") + 1


def visible(staging):
    return [entry.name for entry in staging.iterdir() if not entry.name.startswith(writer.TEMPORARY)]


@pytest.mark.slow
def test_killed_at_any_call_it_leaves_a_whole_folder_or_none(save):
    total = calls_of_a_save(save)
    assert total > 20
    assert (save.staging.parent / "whole" / FIRST).stat().st_nlink == 2
    seen = set()
    for number in range(1, total + 1):
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                Counted(patch, number, lambda *_: os._exit(9))
                save()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        names = visible(save.staging)
        seen.add(bool(names))
        for name in names:
            assert read(save.staging / name)["model"]["weights"][1999] == 1999.0
            (save.staging / name).rename(save.staging.parent / f"whole-{number}")
        writer.remove_leftovers(save.staging)
        assert list(save.staging.iterdir()) == []
    assert seen == {True, False}


def fail_with(code):
    def wrong(_real, _name, _args, _kw):
        raise OSError(code, os.strerror(code))

    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_at_any_call_is_raised_and_leaves_nothing_that_looks_like_a_checkpoint(save, code):
    total = calls_of_a_save(save)
    linking = place_of_link(save)
    for number in range(1, total + 1):
        with pytest.MonkeyPatch.context() as patch:
            counted = Counted(patch, number, fail_with(code))
            if number == linking:
                save()  # what cannot be linked is written
                assert counted.went_wrong == "link"
                (save.staging / NAME).rename(save.staging.parent / "written")
                assert (save.staging.parent / "written" / FIRST).stat().st_nlink == 1
                continue
            with pytest.raises(OSError, match=os.strerror(code)):
                save()
        for name in visible(save.staging):
            read(save.staging / name)  # renamed, but its parent could not be flushed
            (save.staging / name).rename(save.staging.parent / f"whole-{number}")
        assert list(save.staging.iterdir()) == [], "leftovers of a failed save take up room"
        save()
        (save.staging / NAME).rename(save.staging.parent / f"after-{number}")


def test_a_short_write_is_gone_on_with(save):
    total = calls_of_a_save(save)

    def short(real, name, args, kw):
        if name != "pwrite":
            return real(*args, **kw)
        descriptor, chunk, at = args
        return real(descriptor, chunk[: max(1, len(chunk) // 2)], at)

    for number in range(1, total + 1):
        with pytest.MonkeyPatch.context() as patch:
            Counted(patch, number, short)
            save()
        assert read(save.staging / NAME)["model"]["weights"][1999] == 1999.0
        (save.staging / NAME).rename(save.staging.parent / f"after-{number}")


def test_every_file_and_folder_is_flushed_before_the_name_says_whole(save, monkeypatch):
    events, names = [], {}
    real_open, real_fsync, real_rename = os.open, os.fsync, os.rename

    def opened(path, *args, **kw):
        descriptor = real_open(path, *args, **kw)
        names[descriptor] = Path(path).name
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(names[fd]), real_fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda *a, **kw: (events.append("rename"), real_rename(*a, **kw))[1])
    save()
    at = events.index("rename")
    whole = {path.name for path in (save.staging / NAME).iterdir()}
    assert whole - {FIRST} <= set(events[:at]), "all but the one that was flushed in the save before"
    assert events[at - 2 : at] == ["checkpoint.json", ".tmp-000000005-1"]
    assert events[at + 1 :] == ["staging"]


def test_without_a_buffer_the_same_files_are_written(tmp_path, holder):
    captured = State({"model": holder({"weights": array("d", range(2000)), "tail": bytearray(b"abc")})}).captured()
    layout = plan(captured.leaves, piece_bytes_max=6000)
    snapshot = Snapshot(layout, captured.leaves, captured.values)
    snapshot.take(captured.values)
    assert len(layout.pieces) > 1
    for piece in layout.pieces:
        direct = b"".join(direct_chunks(piece, captured.leaves, captured.values))
        assert direct == snapshot.bytes_of(piece)[: piece.bytes]


def test_a_buffer_without_room_says_so():
    with pytest.raises(MemoryError, match="no room for a copy"):
        HostBuffer(1 << 62)
