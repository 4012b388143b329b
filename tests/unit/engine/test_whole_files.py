"""After a death the files that are whole and newer than the snapshot are used as they lie on this machine's disk."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from supervisor.core.carried import Entry, Piece
from supervisor.core.claim import Rank
from supervisor.core.moments import Save, companions, grouped, is_complete
from supervisor.engine.files import structure, whole_files
from supervisor.engine.files.whole_files import WholeFiles

if TYPE_CHECKING:
    from pathlib import Path

RANK = Rank(3, "a")


class Disk:
    """A script's folder, and the notes beside it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.note = tmp_path / "work", tmp_path / "note"
        self.root.mkdir()
        self.files = WholeFiles(self.note, "boot-1")

    def save(self, path: str, body: bytes = b"x", step: int | None = None, rank: Rank = RANK) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(body)
        self.files.add(rank, self.root, path, step)

    def newer(self, rank: Rank = RANK, *entries: Entry, boot: str = "boot-1") -> list[str]:
        return [each.path for each in WholeFiles(self.note, boot).newer(self.root, rank, entries)]

    def entry(self, path: str) -> Entry:
        of = (self.root / path).stat()
        return Entry(path, "file", 0o644, of.st_mtime_ns, Piece("file-1", 0, of.st_size, "sha256:00"))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_whole_files_that_the_snapshot_does_not_hold_are_newer(disk: Disk) -> None:
    for epoch in range(4, 7):
        disk.save(f"ckpt/epoch{epoch:03d}.pt", step=epoch)
    assert disk.newer(RANK, disk.entry("ckpt/epoch004.pt")) == ["ckpt/epoch005.pt", "ckpt/epoch006.pt"]


def test_a_file_that_was_written_over_since_is_newer(disk: Disk) -> None:
    disk.save("last.pt", b"old")
    snapshot = disk.entry("last.pt")
    disk.save("last.pt", b"newer")
    assert disk.newer(RANK, snapshot) == ["last.pt"]


def test_a_file_that_is_half_written_or_changed_since_is_none(disk: Disk) -> None:
    disk.save("epoch005.pt", step=5)
    disk.save("epoch006.pt", step=6)
    (disk.root / "epoch006.pt").write_bytes(b"changed after it was closed")
    (disk.root / "epoch007.pt").write_bytes(b"never closed")
    assert disk.newer() == ["epoch005.pt"]


def test_of_two_that_are_saved_together_never_one_alone(disk: Disk) -> None:
    for epoch in (7, 8):
        disk.save(f"netG_{epoch}.pth", step=epoch)
        disk.save(f"netD_{epoch}.pth", step=epoch)
    disk.save("netG_9.pth", step=9)
    (disk.root / "netD_9.pth").write_bytes(b"half")
    assert disk.newer(RANK, disk.entry("netG_7.pth"), disk.entry("netD_7.pth")) == ["netG_8.pth", "netD_8.pth"]


def test_a_folder_is_one_save(disk: Disk) -> None:
    for name in ("model-00001-of-00002.bin", "model-00002-of-00002.bin"):
        (disk.root / "checkpoint-5").mkdir(exist_ok=True)
        (disk.root / "checkpoint-5" / name).write_bytes(b"x")
    disk.files.add(RANK, disk.root, "checkpoint-5", 5)
    assert len(disk.newer()) == 2
    (disk.root / "checkpoint-5" / "model-00002-of-00002.bin").write_bytes(b"half of a later one")
    assert disk.newer() == []


@pytest.mark.parametrize(
    ("rank", "boot", "used"),
    [
        (RANK, "boot-1", True),
        (Rank(2, "b"), "boot-1", True),  # the snapshot is of an earlier session
        (Rank(3, "b"), "boot-1", False),  # of another machine at the same time
        (Rank(4, "c"), "boot-1", False),  # another machine went on since
        (RANK, "boot-2", False),  # the machine was restarted: what lay in its memory may be lost
    ],
)
def test_only_what_is_newer_than_the_snapshot_counts(disk: Disk, rank: Rank, boot: str, *, used: bool) -> None:
    disk.save("epoch005.pt")
    assert bool(disk.newer(rank, boot=boot)) is used


def test_a_torn_line_a_missing_note_and_a_full_disk_are_borne(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.newer() == []
    disk.save("epoch005.pt")
    with disk.note.open("a") as file:
        file.write('["boot-1", 3, "a"')
    assert disk.newer() == ["epoch005.pt"]
    monkeypatch.setattr(disk.files, "_note", disk.root)
    disk.save("epoch006.pt")
    assert disk.newer() == ["epoch005.pt"]


def test_the_note_is_cut_when_it_is_long(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_files, "LINES_MAX", 20)
    monkeypatch.setattr(whole_files, "LINES_KEPT", 5)
    for number in range(30):
        disk.save(f"epoch{number:03d}.pt")
    assert len(disk.note.read_text().splitlines()) <= 21
    assert disk.newer()[-1] == "epoch029.pt"
    assert os.listdir(disk.note.parent) == ["note", "work"] or "note" in os.listdir(disk.note.parent)  # noqa: PTH208


def test_saves_without_a_step_between_are_one_moment() -> None:
    saves = [Save("g_1", 1), Save("d_1", 1), Save("g_2", 2), Save("d_2", 2), Save("best", 2), Save("g_3", 3)]
    cut = grouped(saves)
    assert [[each.path for each in moment] for moment in cut] == [["g_1", "d_1"], ["g_2", "d_2", "best"], ["g_3"]]
    assert companions(cut[:2], "g_#") == {"d_#"}
    assert not is_complete(cut[2], cut[:2])
    assert is_complete([Save("g_3", 3), Save("d_3", 3)], cut[:2])
    assert [len(each) for each in grouped([Save("g_1"), Save("d_1"), Save("g_2"), Save("d_2")])] == [2, 2]


def zipped(body: str) -> bytes:
    """Return a zip, as torch.save writes one."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("data.pkl", body)
    return made.getvalue()


def safetensors(body: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}}).encode()
    return struct.pack("<Q", len(header)) + header + body


def hdf5(body: bytes) -> bytes:
    size = 48 + len(body)
    return b"\x89HDF\r\n\x1a\n" + bytes([2, 8, 8, 0]) + struct.pack("<QQQQ", 0, 2**64 - 1, size, 48) + bytes(4) + body


@pytest.mark.parametrize("whole", [zipped("x" * 500), safetensors(b"y" * 500), hdf5(b"z" * 500)])
def test_a_format_that_accounts_for_itself_is_whole_or_not(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(whole)
    assert structure.is_whole(path)
    for length in (0, 7, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not structure.is_whole(path), length
    path.write_bytes(b"of no such format, but long enough to have a header of its own" * 3)
    assert not structure.is_whole(path)


def test_a_save_of_which_nobody_was_told_any_more_is_used_if_its_structure_is_whole(disk: Disk) -> None:
    (disk.root / "ckpt").mkdir()
    (disk.root / "ckpt" / "epoch100.pt").write_bytes(zipped("of an earlier training"))
    os.utime(disk.root / "ckpt" / "epoch100.pt", (1, 1))
    disk.save("ckpt/epoch008.pt", zipped("8"), step=8)
    (disk.root / "ckpt" / "epoch007.pt").write_bytes(zipped("older"))
    later = disk.root / "ckpt" / "epoch009.pt"
    later.write_bytes(zipped("9"))
    os.utime(later, ns=(0, (disk.root / "ckpt" / "epoch008.pt").stat().st_mtime_ns + 1))
    (disk.root / "ckpt" / "epoch010.pt").write_bytes(zipped("10")[:-9])
    assert disk.newer() == ["ckpt/epoch008.pt", "ckpt/epoch009.pt"]


def test_of_two_such_files_never_one_alone(disk: Disk) -> None:
    for epoch in (7, 8):
        disk.save(f"netG_{epoch}.pth", zipped("g"), step=epoch)
        disk.save(f"netD_{epoch}.pth", zipped("d"), step=epoch)
    after_ns = (disk.root / "netD_8.pth").stat().st_mtime_ns + 1
    for name, expected in (("netG_9.pth", "netD_8.pth"), ("netD_9.pth", "netD_9.pth")):
        (disk.root / name).write_bytes(zipped("x"))
        os.utime(disk.root / name, ns=(0, after_ns))
        assert disk.newer()[-1] == expected
    assert set(disk.newer()[-2:]) == {"netG_9.pth", "netD_9.pth"}
