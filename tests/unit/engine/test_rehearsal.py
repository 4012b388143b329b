"""What a rehearsal may say: nothing, where nothing was tested; and what it works in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor.core.errors import NOT_TESTED, UserError
from supervisor.engine import rehearsal, working_copy
from supervisor.engine.comparison import Comparison

SAME = {"steps": (90, 90), "attached": ("model",), "generators": (), "differ": (), "row": None, "columns": (),
        "measured": (), "ahead": (), "resumed": (30, 60), "rows": 90}  # fmt: skip


def compared(monkeypatch, tmp_path, **changes):
    acts = rehearsal.Rehearsal(SimpleNamespace(folder=tmp_path), lambda folder: folder, None, print)
    found = Comparison(**{**SAME, **changes})
    monkeypatch.setattr(rehearsal, "compare", lambda *_: found)
    assert acts.compared() is found


@pytest.mark.parametrize(
    "changes", [{}, {"rows": 0}, {"attached": (), "rows": 3}, {"attached": ("files",), "rows": 0, "files": 2}]
)
def test_what_was_resumed_in_the_middle_is_judged(monkeypatch, tmp_path, changes):
    compared(monkeypatch, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resumed": ()}, "shows nothing"),
        ({"resumed": (90,)}, "every kill fell at or after the last step, 90"),
        ({"resumed": (90, 90)}, "every kill fell at or after the last step"),
        ({"attached": (), "rows": 0}, "nothing was there to be compared"),
        ({"attached": ("files",), "rows": 0, "files": 0}, "nothing was there to be compared"),
    ],
)
def test_what_tests_nothing_gets_no_verdict_and_an_exit_code_of_its_own(monkeypatch, tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as refused:
        compared(monkeypatch, tmp_path, **changes)
    assert refused.value.what.startswith("not tested: ")
    assert refused.value.exit_code == NOT_TESTED
    assert refused.value.hint


def test_a_run_that_begins_again_is_not_exact_however_equal_it_ends():
    assert not Comparison(**SAME, anew=(60,)).exact


# --- the copy that it works in ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "project"
    for path in ("train.py", "lib/model.py", "out/ckpt.pt", ".git/config", ".venv/pyvenv.cfg", "mine/pyvenv.cfg", "runs/a/run.json",
                 "runs/a/e00000001-ab/claim.json", "__pycache__/x.pyc", "note/run.json"):  # fmt: skip
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(path)
    (made / "empty").mkdir()
    return made


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_copy_has_what_a_script_needs(folder, tmp_path):
    copied = working_copy.copy(folder, tmp_path / "copy")
    assert names(tmp_path / "copy") == ["lib/model.py", "note/run.json", "out/ckpt.pt", "train.py"]
    assert (tmp_path / "copy" / "empty").is_dir()
    assert copied.files == 4
    assert not copied.too_large


def test_what_is_written_in_the_copy_never_reaches_the_user_s_files_also_through_links(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "data.bin").write_text("data")
    (folder / "data").symlink_to(tmp_path / "disk")
    (folder / "latest.pt").symlink_to("out/ckpt.pt")
    (folder / "hard.pt").hardlink_to(folder / "out" / "ckpt.pt")
    (folder / "circle").symlink_to(folder)
    (folder / "nowhere").symlink_to("gone")
    working_copy.copy(folder, tmp_path / "copy")
    for path in ("data/data.bin", "latest.pt", "hard.pt", "out/ckpt.pt"):
        assert (tmp_path / "copy" / path).read_text()
        (tmp_path / "copy" / path).write_text("written in the copy")
    assert (tmp_path / "disk" / "data.bin").read_text() == "data"
    assert (folder / "out" / "ckpt.pt").read_text() == "out/ckpt.pt"


def test_what_is_to_be_left_out_is(folder, tmp_path):
    working_copy.copy(folder, folder / "room" / "copy", without=[folder / "out", folder / "room"])
    assert names(folder / "room" / "copy") == ["lib/model.py", "note/run.json", "train.py"]


def test_files_over_the_bound_are_left_out_and_named(folder, tmp_path, monkeypatch):
    (folder / "large.bin").write_bytes(bytes(1000))
    monkeypatch.setattr(working_copy, "BYTES_MAX", 500)
    copied = working_copy.copy(folder, tmp_path / "copy")
    assert copied.too_large == ("large.bin",)
    assert (tmp_path / "copy" / "train.py").is_file()


def test_a_folder_with_far_too_many_files_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(working_copy, "FILES_MAX", 5)
    with pytest.raises(UserError, match="too many to copy"):
        working_copy.copy(folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("printed", "missed"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '../data/a b.csv'", "../data/a b.csv"),
        ("OSError: ../data/x.npy not found.", "../data/x.npy"),
        ("FileNotFoundError: {work}/../data/x.npy", "../data/x.npy"),
        ("RuntimeError: no images in {above}/data", "../data"),
        ("FileNotFoundError: '../elsewhere/x.npy'", None),
        ("FileNotFoundError: 'data/x.npy'", None),
        ("ValueError: /usr/lib and ../ are no numbers", None),
    ],
)
def test_a_path_beside_the_working_folder_that_the_copy_has_not_is_found_in_the_output(tmp_path, printed, missed):
    folder, work = tmp_path / "home" / "project", tmp_path / "rehearsal" / "work"
    for made in (folder, work, tmp_path / "home" / "data"):
        made.mkdir(parents=True)
    for name in ("a b.csv", "x.npy"):
        (tmp_path / "home" / "data" / name).touch()
    found = working_copy.missed(printed.format(work=work, above=work.parent), work, folder)
    assert found == (missed and (missed, tmp_path / "home" / missed.removeprefix("../")))
