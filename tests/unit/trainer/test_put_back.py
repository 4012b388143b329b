"""Which files that were put back a script has opened: told by the system, for every kind of reader."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from supervisor.core.messages import ReadBack, Saved
from supervisor.trainer.hooks import put_back
from supervisor.trainer.hooks.unattached import Unattached
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who opens a file (inotify)")


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / "ckpt-1.pt", tmp_path / "ckpt-2.pt"]
    for path in made:
        path.write_bytes(b"state" * 1000)
    return made


@pytest.fixture
def listing(files, tmp_path):
    path = tmp_path / "put-back.json"
    path.write_text(json.dumps([*map(str, files), str(tmp_path / "gone.pt")]))
    return path


def raw_map(path):
    descriptor = os.open(path, os.O_RDONLY)
    held = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    os.close(descriptor)
    return held


def read_some(path):
    with path.open("r+b") as file:
        file.read(1)


def append(path):
    with path.open("ab") as file:
        file.write(b"more")


def read_through(path):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    link.read_bytes()


READERS = {
    "open": lambda path: path.read_bytes(),
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "copy": lambda path: shutil.copyfile(path, path.with_suffix(".copy")),
    "a link to it": read_through,
    "a child": lambda path: subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL),
    "a memory map that stays": raw_map,
    "opened to be changed, and read": read_some,
}


@pytest.mark.parametrize("reader", list(READERS))
def test_each_way_to_read_is_seen(files, listing, reader):
    watched = put_back.begin(str(listing))
    assert watched.look() == ""
    held = READERS[reader](files[1])
    assert watched.look() == str(files[1])
    assert watched.known
    del held


def test_a_database_is_read(tmp_path):
    path, listing = tmp_path / "study.db", tmp_path / "put-back.json"
    with sqlite3.connect(path) as made:
        made.execute("create table trials (n)")
    made.close()
    listing.write_text(json.dumps([str(path)]))
    watched = put_back.begin(str(listing))
    opened = sqlite3.connect(path)
    opened.execute("select * from trials").fetchall()
    opened.close()
    assert watched.look() == str(path)


NOT_READ = {
    "stat": lambda path: path.stat(),
    "list": lambda path: list(path.parent.iterdir()),
    "exists": lambda path: path.exists(),
    "glob": lambda path: sorted(path.parent.glob("*.pt")),
    "remove": lambda path: path.unlink(),
    "write again": lambda path: path.write_bytes(b"new"),
    "write, then read what was written": lambda path: (path.write_bytes(b"new"), path.read_bytes()),
    "replace, then read": lambda path: (path.unlink(), path.write_bytes(b"new"), path.read_bytes()),
    "append": append,
    "hold open to append": lambda path: path.open("ab"),
    "read another": lambda path: path.with_name("put-back.json").read_bytes(),
}


@pytest.mark.parametrize("what", list(NOT_READ))
def test_what_reads_nothing_that_was_put_back_is_not_taken_for_reading(files, listing, what):
    watched = put_back.begin(str(listing))
    held = NOT_READ[what](files[1])
    assert watched.look() == ""
    assert watched.known
    if hasattr(held, "close"):
        held.close()


@pytest.mark.parametrize("text", ["", "[]", "no JSON"])
def test_without_files_that_were_put_back_there_is_nothing_to_watch(tmp_path, text):
    (tmp_path / "listing").write_text(text)
    assert put_back.begin(str(tmp_path / "listing")) is None
    assert put_back.begin("") is None


def test_where_the_system_does_not_tell_nothing_is_known(files, listing, monkeypatch):
    def unable(*_):
        raise OSError(28, "no room for more watches")

    monkeypatch.setattr(put_back.PutBack, "_watch", unable)
    watched = put_back.begin(str(listing))
    files[0].read_bytes()
    assert watched.look() == ""
    assert not watched.known


# --- what follows from it ---------------------------------------------------------------------------------------------


@pytest.fixture
def script(listing):
    life = Life(read_settings({"SUPERVISOR_RUN_BASE_STEP": "500", "SUPERVISOR_RUN_PUT_BACK": str(listing)}, "train.py"))
    said = []
    life.say = said.append
    made = Unattached(life)
    made.said = said
    return made


def test_a_script_that_read_its_file_goes_on_counting(script, files):
    files[0].read_bytes()
    script.stepped()
    assert script.said == [ReadBack(str(files[0]))]
    assert script.step == 501


@pytest.mark.parametrize(
    ("loads", "told"),
    [(None, ""), (set(), "nothing"), ({"network"}, "network"), ({"optimizer", "network"}, "network optimizer")],
)
def test_with_what_it_read_is_told_what_has_loaded_a_state(script, files, loads, told):
    script.loads = loads
    files[0].read_bytes()
    script.stepped()
    assert script.said == [ReadBack(str(files[0]), loaded=told)]


def test_a_script_that_read_nothing_is_at_its_first_step(script):
    script.stepped()
    assert script.said == [ReadBack("")]
    assert script.step == 1
    script.stepped()
    assert len(script.said) == 1


def test_a_step_that_a_framework_counts_by_itself_stands(script):
    script.begins()
    script.stepped(7)
    assert script.step == 7


def test_what_is_opened_after_the_first_step_is_said_once_as_late(script, files):
    script.stepped()
    script.beat()
    files[1].read_bytes()
    script.stepped()
    script.beat()
    script.stepped()
    script.beat()
    told = [each for each in script.said if isinstance(each, ReadBack)]
    assert told == [ReadBack(""), ReadBack(str(files[1]), late=True)]
    assert script.step == 3


def test_a_save_before_the_first_step_is_one_of_the_step_that_was_put_back(script, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    script.saved("first.pt")
    files[0].read_bytes()
    script.stepped()
    script.saved("second.pt")
    told = [(each.path, each.step) for each in script.said if isinstance(each, Saved)]
    assert told == [("first.pt", 500), ("second.pt", 501)]


def test_a_script_that_ends_without_a_step_is_judged_at_its_end(listing):
    life = Life(read_settings({"SUPERVISOR_RUN_PUT_BACK": str(listing)}, "train.py"))
    said = []
    life.say = said.append
    life.watch(Unattached(life))
    from supervisor.core.messages import Finished

    life.say_last(Finished(0))
    assert ReadBack("") in said


def test_nothing_is_said_where_nothing_was_put_back():
    life = Life(read_settings({}, "train.py"))
    said = []
    life.say = said.append
    Unattached(life).stepped()
    assert said == []
