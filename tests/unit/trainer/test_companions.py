"""Files beside the attached state: of the step of the state, copied when they changed, put back before the next start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.carried import FILES_FILE, parse
from supervisor.engine.files import putting_back
from supervisor.trainer import writer
from supervisor.trainer.companions import SMALL_BYTES_MAX, CompanionFiles

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """A working folder and a staging folder; ``saved`` writes a checkpoint with nothing but the companion files."""

    def __init__(self, root: Path, called: str = ""):
        self.working, self.staging = root / "work", root / "staging"
        self.working.mkdir()
        self.staging.mkdir()
        self.said: list[str] = []
        self.kept = CompanionFiles(self.working, called, self.staging, self.said.append)
        self.step = 0

    def write(self, path: str, body: bytes) -> Path:
        to = self.working / path
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(body)
        return to

    def saved(self) -> Path:
        self.step += 1
        taken = self.kept.take(self.step)
        assert taken is not None
        name = f"step-{self.step:09d}-1"
        writer.write_folder(self.staging, name, taken.files(), lambda _records: ("checkpoint.json", b"{}"))
        return self.staging / name

    def restored(self, folder: Path, into: Path) -> dict[str, bytes]:
        carried = parse((folder / FILES_FILE).read_bytes())
        putting_back.put_back(folder, carried, into, into.parent / "aside")
        return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "out")


LARGE = os.urandom(SMALL_BYTES_MAX + 1)


def test_small_and_large_files_folders_and_links_come_back(place: Place, tmp_path: Path) -> None:
    place.write("out/best.pt", LARGE)
    place.write("out/deep/log.csv", b"step,loss\n")
    (place.working / "out" / "latest").symlink_to("best.pt")
    got = place.restored(place.saved(), tmp_path / "fresh")
    assert got == {"best.pt": LARGE, "latest": LARGE, "deep/log.csv": b"step,loss\n"}
    assert (tmp_path / "fresh" / "latest").is_symlink()


def test_each_checkpoint_has_the_files_of_its_own_step(place: Place, tmp_path: Path) -> None:
    best = place.write("out/best.pt", LARGE)
    place.write("out/log.csv", b"1\n")
    first = place.saved()
    best.write_bytes(LARGE[::-1])  # in place, as torch.save does
    place.write("out/log.csv", b"1\n2\n")
    second = place.saved()
    assert place.restored(first, tmp_path / "one") == {"best.pt": LARGE, "log.csv": b"1\n"}
    assert place.restored(second, tmp_path / "two") == {"best.pt": LARGE[::-1], "log.csv": b"1\n2\n"}


def test_a_file_that_is_rewritten_while_the_checkpoint_is_written_stays_as_it_was_at_the_step(
    place: Place, tmp_path: Path
) -> None:
    best = place.write("out/best.pt", LARGE)
    taken = place.kept.take(1)
    best.write_bytes(b"later")
    assert taken is not None
    writer.write_folder(place.staging, "step-000000001-1", taken.files(), lambda _records: ("checkpoint.json", b"{}"))
    assert place.restored(place.staging / "step-000000001-1", tmp_path / "one") == {"best.pt": LARGE}


def test_an_unchanged_large_file_is_not_copied_again(place: Place) -> None:
    place.write("out/best.pt", LARGE)
    first, second = place.saved(), place.saved()
    (name,) = [each.name for each in first.iterdir() if each.name.startswith("file-")]
    assert (first / name).stat().st_ino == (second / name).stat().st_ino


def test_a_copy_that_is_not_needed_any_more_leaves_the_spool(place: Place) -> None:
    place.write("out/best.pt", LARGE)
    place.saved()
    place.write("out/best.pt", LARGE[::-1])
    place.saved()
    assert len(list(place.kept._spool.iterdir())) == 1


def test_a_removed_file_is_not_in_the_next_checkpoint(place: Place, tmp_path: Path) -> None:
    place.write("out/a.pt", b"a")
    place.write("out/b.pt", b"b")
    place.saved()
    (place.working / "out" / "a.pt").unlink()
    assert place.restored(place.saved(), tmp_path / "fresh") == {"b.pt": b"b"}


def test_only_the_paths_that_a_callback_names_are_kept_where_no_folder_is_watched(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("out/checkpoint-6/model.safetensors", LARGE)
    place.write("out/checkpoint-9/model.safetensors", b"9")
    place.kept.add(lambda: [str(place.working / "out" / "checkpoint-6")])
    got = place.restored(place.saved(), tmp_path / "fresh")
    assert got == {"out/checkpoint-6/model.safetensors": LARGE}
    assert place.kept.covers(str(place.working / "out" / "checkpoint-6" / "model.safetensors"))
    assert not place.kept.covers(str(place.working / "out" / "checkpoint-9"))


def test_a_path_outside_is_named_once_and_left_out(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "elsewhere.pt").write_bytes(b"x")
    place.kept.add(lambda: [tmp_path / "elsewhere.pt"])
    place.saved()
    place.saved()
    (words,) = place.said
    assert "elsewhere.pt lies outside the working folder and is not part of the checkpoints" in words
    assert "--watch" in words


def test_a_fifo_and_a_temporary_name_are_not_opened(place: Place, tmp_path: Path) -> None:
    place.write("out/a.pt.tmp", b"half")
    place.write("out/a.pt", b"a")
    os.mkfifo(place.working / "out" / "pipe")
    assert place.restored(place.saved(), tmp_path / "fresh") == {"a.pt": b"a"}
    assert "'pipe' is neither file, folder nor link" in place.said[0]


def test_nothing_is_taken_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    assert Place(tmp_path).kept.take(1) is None


def test_a_folder_that_is_not_there_yet_is_no_error(place: Place, tmp_path: Path) -> None:
    assert place.restored(place.saved(), tmp_path / "fresh") == {}


def test_a_file_that_never_stops_changing_keeps_its_older_copy(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.write("out/log.csv", b"1\n")
    place.saved()
    path.write_bytes(b"1\n2\n")
    read = place.kept._read

    def restless(full, marks):
        copy = read(full, marks)
        with path.open("ab") as file:
            file.write(b"more\n")
        return copy

    monkeypatch.setattr(place.kept, "_read", restless)
    assert place.restored(place.saved(), tmp_path / "fresh") == {"log.csv": b"1\n"}
    assert "'log.csv' changes while it is copied" in place.said[0]
