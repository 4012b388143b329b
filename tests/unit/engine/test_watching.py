"""Snapshots of a script's files: whole and quiet ones only, all kinds of names, unchanged ones shared."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from supervisor.core.messages import Beat, SaveFailed
from supervisor.engine import staged
from supervisor.engine.files import snapshots
from supervisor.engine.files.copying import ChangedMeanwhile
from supervisor.engine.files.drafting import ALONE_BYTES_MIN
from tests.unit.engine.files import Folder, tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_is_taken_once_it_is_quiet(folder: Folder) -> None:
    (folder.root / "model.pt").write_bytes(b"whole")
    folder.after(0.0)
    assert not folder.staged
    folder.after(1.0)
    assert not folder.staged
    folder.after(1.0)
    assert [each.step for each in folder.staged] == [1]
    assert staged.prove(folder.newest(), 1).files.keys() == {"bundle-000001", "files.json"}
    folder.after(60.0)
    assert len(folder.staged) == 1, "nothing has changed since"


def test_a_file_that_is_open_for_writing_is_not_whole_however_quiet(folder: Folder) -> None:
    with (folder.root / "model.pt").open("wb") as file:
        file.write(b"half")
        file.flush()
        folder.settle()
        assert not folder.staged
    folder.settle()
    assert folder.put_back(folder.root.parent / "again").written == 1
    assert tree(folder.root.parent / "again") == {"model.pt": b"half"}


def test_what_was_there_before_the_script_is_nothing_new_but_is_carried(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "vocabulary.txt").write_text("a b c")
    folder = Folder(tmp_path)
    folder.series.seen = folder.watcher._scan()
    folder.watcher._still.begin(folder.watcher._scan())
    folder.settle()
    assert not folder.staged
    (folder.root / "step_5.pkl").write_bytes(b"x")
    folder.settle()
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == {"vocabulary.txt": b"a b c", "step_5.pkl": b"x"}
    assert folder.staged[-1].step == 5


def test_temporary_names_count_once_they_are_renamed(folder: Folder) -> None:
    (folder.root / "model.pt.tmp").write_bytes(b"new")
    folder.settle()
    assert not folder.staged
    (folder.root / "model.pt.tmp").rename(folder.root / "model.pt")
    folder.settle()
    assert len(folder.staged) == 1


def test_a_growing_log_never_blocks_and_is_carried_up_to_a_whole_line(folder: Folder, tmp_path: Path) -> None:
    log = (folder.root / "train.log").open("w")
    (folder.root / "step_1.pkl").write_bytes(b"one")
    for number in range(6):
        log.write(f"line {number}\nhalf a li")
        log.flush()
        folder.after(1.0)
    log.close()
    assert len(folder.staged) == 1
    folder.put_back(tmp_path / "again")
    kept = tree(tmp_path / "again")["train.log"]
    assert isinstance(kept, bytes)
    assert kept.endswith(b"\n")
    assert (folder.root / "train.log").read_bytes().startswith(kept)


def test_a_file_that_is_only_added_to_is_a_stream_whatever_its_name(folder: Folder) -> None:
    with (folder.root / "results").open("ab") as results:
        results.write(b"1")
        results.flush()
        (folder.root / "step_1.pkl").write_bytes(b"one")
        folder.settle()
        assert len(folder.staged) == 1


def test_a_stream_that_is_written_anew_is_not_carried_half(folder: Folder, tmp_path: Path) -> None:
    (folder.root / "table.csv").write_bytes(b"a,b\n1,2\n3,4\n")
    (folder.root / "step_1.pkl").write_bytes(b"one")
    folder.settle()
    with (folder.root / "table.csv").open("wb") as file:
        file.write(b"a,b\n9,")
        file.flush()
        (folder.root / "step_2.pkl").write_bytes(b"two")
        folder.after(30.0)
        folder.settle()
        assert len(folder.staged) == 2
        folder.put_back(tmp_path / "again")
        assert tree(tmp_path / "again")["table.csv"] == b"a,b\n1,2\n3,4\n"


def test_a_file_that_is_never_still_is_left_out_after_two_minutes_with_one_warning(
    folder: Folder, tmp_path: Path
) -> None:
    (folder.root / "step_1.pkl").write_bytes(b"one")
    for number in range(140):
        (folder.root / "restless.bin").write_bytes(b"%d" % number)
        folder.after(1.0)
    assert folder.staged
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == {"step_1.pkl": b"one"}
    assert len([note for note in folder.notes if "restless.bin" in note]) == 1
    folder.settle()
    folder.after(30.0)
    folder.put_back(tmp_path / "later")
    assert tree(tmp_path / "later")["restless.bin"] == b"139"


def test_links_are_kept_as_links_and_never_followed(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("not ours")
    (folder.root / "step_7.pkl").write_bytes(b"x")
    (folder.root / "latest").symlink_to("step_7.pkl")
    (folder.root / "away").symlink_to(outside)
    (folder.root / "up").symlink_to(tmp_path)
    folder.settle()
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == {
        "step_7.pkl": b"x", "latest": "step_7.pkl", "away": str(outside), "up": str(tmp_path),
    }  # fmt: skip
    assert any("away" in note for note in folder.notes)


def test_names_of_every_kind_come_back(folder: Folder, tmp_path: Path) -> None:
    names = ["with space", "new\nline", "\u4eac\u6d25.pkl", os.fsdecode(b"caf\xe9.bin"), "-rf", "a'b\"c", ".hidden"]
    (folder.root / "deep" / "empty").mkdir(parents=True)
    for name in names:
        (folder.root / "deep" / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    folder.settle()
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder.root)


def test_pipes_and_sockets_are_passed_over_with_a_word(folder: Folder) -> None:
    os.mkfifo(folder.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder.root / "socket"))
        (folder.root / "model.pt").write_bytes(b"x")
        folder.settle()
    assert len(folder.staged) == 1
    assert sum("not carried" in note for note in folder.notes) == 2


def test_what_is_unchanged_is_a_link_to_the_copy_before(folder: Folder) -> None:
    (folder.root / "large.bin").write_bytes(os.urandom(ALONE_BYTES_MIN))
    (folder.root / "step_1.pkl").write_bytes(b"one")
    folder.settle()
    first = folder.newest() / "file-000001"
    (folder.root / "step_2.pkl").write_bytes(b"two")
    folder.after(10.0)
    folder.settle()
    second = folder.newest() / "file-000001"
    assert first.parent != second.parent
    assert first.samefile(second)
    assert not second.samefile(folder.root / "large.bin"), "the script may write into its own"
    assert [each.step for each in folder.staged] == [1, 2]


def test_hundreds_of_small_files_are_a_few_files(folder: Folder, tmp_path: Path) -> None:
    for number in range(400):
        (folder.root / f"sample-{number}").write_bytes(b"%d" % number)
    folder.settle()
    assert len(list(folder.newest().iterdir())) == 3
    (folder.root / "sample-7").write_bytes(b"other")
    (folder.root / "sample-8").unlink()
    folder.after(10.0)
    folder.settle()
    assert len(list(folder.newest().iterdir())) == 3
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder.root)


def test_no_snapshot_is_taken_while_the_framework_saves(folder: Folder) -> None:
    folder.series.heard(Beat(5, "save"))
    (folder.root / "part-1.bin").write_bytes(b"1")
    folder.settle()
    assert not folder.staged
    folder.series.heard(Beat(5, "step"))
    folder.after(1.0)
    assert [each.step for each in folder.staged] == [5]


def test_a_copy_of_a_file_that_changes_meanwhile_is_thrown_away(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.root / "large.bin").write_bytes(bytes(ALONE_BYTES_MIN))
    real = snapshots.Draft._copied

    def meddled(self: snapshots.Draft, source: int, length: int) -> object:
        piece = real(self, source, length)
        with (folder.root / "large.bin").open("r+b") as file:
            file.write(b"x")
        return piece

    monkeypatch.setattr(snapshots.Draft, "_copied", meddled)
    folder.settle()
    assert not folder.staged
    assert not list(folder.staging.iterdir())
    order = snapshots.Order(folder.root, "out", folder.watcher._scan(), folder.staging, 1, "step-000000001-1")
    with pytest.raises(ChangedMeanwhile):
        snapshots.take(order, folder.series.known)


def test_a_full_disk_is_said_and_tried_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.root / "step_3.pkl").write_bytes(b"x")

    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("supervisor.engine.files.copying.flush_folder", full)
        folder.settle()
    assert any(isinstance(each, SaveFailed) for each in folder.said)
    folder.after(40.0)
    folder.settle()
    assert [each.step for each in folder.staged] == [3]


def test_a_clean_end_takes_everything_at_once(folder: Folder, tmp_path: Path) -> None:
    (folder.root / "final.pt").write_bytes(b"x")
    (folder.root / "train.log").write_bytes(b"half a line")
    folder.watcher.end(trusted=True)
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder.root)


def test_after_a_kill_only_what_was_seen_whole_is_trusted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (folder.root / "step_1.pkl").write_bytes(b"one")
    folder.settle()
    (folder.root / "step_2.pkl").write_bytes(b"two")
    folder.watcher._next_s = folder.clock.now_s + 3600.0
    folder.settle()
    assert len(folder.staged) == 1, "the interval is not over"
    folder.watcher.end(trusted=False)
    assert [each.step for each in folder.staged] == [1, 2], "it was seen to be whole before the death"


def test_after_a_kill_a_file_that_changed_last_is_not_trusted(folder: Folder) -> None:
    (folder.root / "step_1.pkl").write_bytes(b"one")
    folder.settle()
    (folder.root / "step_2.pkl").write_bytes(b"tw")
    folder.watcher.end(trusted=False)
    assert [each.step for each in folder.staged] == [1]


def test_an_emptied_folder_never_takes_the_place_of_a_full_one(folder: Folder) -> None:
    (folder.root / "step_1.pkl").write_bytes(b"one")
    folder.settle()
    (folder.root / "step_1.pkl").unlink()
    folder.after(60.0)
    folder.settle()
    assert len(folder.staged) == 1


def saved(folder: Folder, name: str, step: int) -> None:
    """Have the script's framework save a file and say so."""
    (folder.root / name).write_bytes(b"%d" % step)
    folder.series.told(name, step)
    folder.watcher.saved(name)


def test_two_nets_that_are_saved_together_are_never_split_over_two_snapshots(folder: Folder) -> None:
    for step in (1, 2):
        folder.series.heard(Beat(step, "step"))
        saved(folder, f"netG_{step}.pth", step)
        saved(folder, f"netD_{step}.pth", step)
        folder.settle()
        folder.after(30.0)
    taken = len(folder.staged)
    folder.series.heard(Beat(3, "step"))
    saved(folder, "netG_3.pth", 3)
    for _ in range(8):
        folder.after(1.0)
    assert len(folder.staged) == taken, "the other one is waited for, though the loop stands"
    saved(folder, "netD_3.pth", 3)
    folder.settle()
    folder.put_back(folder.root.parent / "again")
    assert {"netG_3.pth", "netD_3.pth"} <= tree(folder.root.parent / "again").keys()


def test_a_net_whose_partner_does_not_come_is_taken_when_a_step_is_done(folder: Folder) -> None:
    for step in (1, 2):
        saved(folder, f"netG_{step}.pth", step)
        saved(folder, f"netD_{step}.pth", step)
        folder.settle()
        folder.after(30.0)
    taken = len(folder.staged)
    saved(folder, "netG_3.pth", 3)
    folder.series.heard(Beat(4, "step"))
    folder.settle()
    assert len(folder.staged) == taken + 1


def test_a_script_that_saves_twice_a_second_is_not_waited_for(folder: Folder) -> None:
    for number in range(1, 26):  # ten seconds
        step = 10 * number
        folder.series.heard(Beat(step, "step"))  # the newest beat is never of a later step than the newest save
        saved(folder, f"ckpt-{number}.pt", step)
        folder.after(0.4)
    assert folder.staged, "saves of later steps show that the first one is whole"


def test_a_file_that_is_replaced_every_second_is_taken_because_a_rename_shows_it_whole(folder: Folder) -> None:
    for number in range(15):
        (folder.root / "new.tmp").write_bytes(b"%d" % number)
        (folder.root / "new.tmp").rename(folder.root / "model_latest.pkl")
        folder.after(1.0)
    assert folder.staged
    assert not [note for note in folder.notes if "never still" in note]


def test_a_file_that_is_replaced_and_then_written_on_is_not_taken(folder: Folder) -> None:
    (folder.root / "model_latest.pkl").write_bytes(b"old")
    folder.settle()
    with (folder.root / "new.tmp").open("wb") as file:
        (folder.root / "new.tmp").rename(folder.root / "model_latest.pkl")
        for _ in range(10):
            file.write(b"more")
            file.flush()
            folder.after(1.0)
        assert len(folder.staged) == 1
    folder.settle()
    assert len(folder.staged) == 2


def test_steps_that_are_done_again_are_not_taken_as_newer_ones_until_they_are(folder: Folder) -> None:
    folder.series.heard(Beat(31, "step"))
    saved(folder, "last.pt", 31)
    folder.settle()
    folder.series.attempt()
    folder.series.begins_again()
    for step in (10, 20, 31):
        folder.series.heard(Beat(step, "step"))
        saved(folder, "last.pt", step)
        folder.after(30.0)
        folder.settle()
    assert [each.step for each in folder.staged] == [31]
    saved(folder, "last.pt", 40)
    folder.after(30.0)
    folder.settle()
    assert [each.step for each in folder.staged] == [31, 40]


def test_what_a_script_that_began_again_left_at_its_end_is_kept_also_where_it_did_less(folder: Folder) -> None:
    saved(folder, "last.pt", 31)
    folder.settle()
    folder.series.begins_again()
    saved(folder, "last.pt", 20)
    folder.watcher.end(trusted=True)
    assert labels(folder) == [("step-000000031-1", True), ("step-000000032-1", False)], "no step has that number"


def test_the_last_snapshot_of_a_script_that_ended_is_of_its_last_save(folder: Folder) -> None:
    saved(folder, "net_epoch11.pth", 77)
    saved(folder, "net_final.pth", 84)
    folder.watcher.end(trusted=True)
    assert [each.step for each in folder.staged] == [84]


def save_at(folder: Folder, name: str, step: int) -> None:
    """The script's framework has written a file at a step, and reports it."""
    folder.series.heard(Beat(step=step, section="step"))
    (folder.root / name).write_bytes(f"{name} {step} {len(folder.staged)}".encode())
    folder.series.told(name, step)
    folder.settle()
    folder.after(60.0)
    folder.settle()


def labels(folder: Folder) -> list[tuple[str, bool]]:
    return [(each.folder.rpartition("/")[2], each.counted) for each in folder.staged]


def test_a_second_snapshot_at_the_last_step_has_its_step_and_the_next_sequence_number(folder: Folder) -> None:
    for name in ("last.pt", "best.pt", "final.pt"):
        save_at(folder, name, 50)
    save_at(folder, "last.pt", 60)
    names = [f"step-{step:09d}-{sequence}" for step, sequence in ((50, 1), (50, 2), (50, 3), (60, 1))]
    assert labels(folder) == [(name, True) for name in names]


def test_a_save_that_nothing_tells_of_has_the_step_of_the_save_that_was_told_right_before_it(folder: Folder) -> None:
    """A pickle after torch.save(): the beats are some steps behind the script when it is written."""
    folder.series.heard(Beat(47, "step"))
    saved(folder, "last.pt", 50)
    folder.settle()
    (folder.root / "replay.pkl").write_bytes(b"replay")
    os.utime(folder.root / "replay.pkl", (folder.clock.now_s, folder.clock.now_s))
    folder.after(30.0)
    folder.series.heard(Beat(50, "step"))
    folder.settle()
    assert labels(folder) == [("step-000000050-1", True), ("step-000000050-2", True)]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("model_100.pkl", "ema_100.pkl"), [100, 100]),
        (("ckpt/iter_5.pkl", "ckpt/optimizer_5.pkl", "ckpt/iter_6.pkl"), [5, 5, 6]),
        (("model_18.pkl", "model_18.pkl", "model_18.pkl"), [18, 19, 20]),  # its number is none of a step
        (("last.pkl", "best.pkl"), [1, 2]),
    ],
)
def test_two_files_of_one_number_are_snapshots_of_one_number(
    folder: Folder, names: tuple[str, ...], steps: list[int]
) -> None:
    for name in names:
        (folder.root / name).parent.mkdir(exist_ok=True)
        (folder.root / name).write_bytes(f"{name} {len(folder.staged)}".encode())
        folder.settle()
        folder.after(60.0)
        folder.settle()
    assert [each.step for each in folder.staged] == steps
    assert not any(each.counted for each in folder.staged)
