"""Removing a run: what is named, when it is refused, and that nothing of it is left in the store and on this machine."""

from __future__ import annotations

import json

import pytest

from supervisor import wiring
from supervisor.core import events as ev
from supervisor.engine import claims, identity


@pytest.fixture
def ended(left):
    rank = left.session(1, options={"keep_last": 2})
    ids = [left.checkpoint(rank, step, f"weights {step}".encode()) for step in (10, 20)]
    left.journal(rank, *(ev.Durable("", id_, 10, 0.1, "fsync") for id_ in ids))
    left.end(rank, "stopped", 143)
    return left


def local_of(root, name="plates"):
    run_id = json.loads((root / "runs" / name / "run.json").read_text())["id"]
    folder = root / "local/training-supervisor" / run_id
    (folder / "e00000001-00000001").mkdir(parents=True)
    return folder


def test_a_run_goes_from_the_store_and_from_this_machine(said, ended, root):
    folder = local_of(root)
    code, words = said("rm", "plates", "--yes")
    assert code == 0
    assert "newest safe step 20" in words
    assert "1 session" in words
    assert not (root / "runs" / "plates").exists()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["my train 训练", "-run"])
def test_a_name_with_spaces_or_a_dash_is_taken_as_it_is(said, make, root, name):
    left = make(name)
    left.end(left.session(1), "stopped", 143)
    words = ["rm", "--yes", "--", name]
    assert said(*words)[0] == 0
    assert not (root / "runs" / name).exists()


def test_without_a_terminal_it_is_listed_refused_and_left(said, ended, root):
    code, words = said("rm", "plates")
    assert code == 2
    assert "newest safe step 20" in words
    assert "--yes" in words
    assert (root / "runs/plates/run.json").is_file()


def test_a_dry_run_removes_nothing(said, ended, root):
    assert said("rm", "plates", "--dry-run")[0] == 0
    assert (root / "runs/plates/run.json").is_file()


def test_work_that_lies_on_this_machine_alone_is_named(said, ended, root):
    staged = local_of(root) / "e00000001-00000001/staging/step-000000050-2"
    staged.mkdir(parents=True)
    assert "holds step 50 of" in said("rm", "plates", "--dry-run")[1]


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_a_run_that_lives_on_this_machine_is_refused(said, left, root, options):
    left.session(1, machine=identity.mine())
    code, words = said("rm", "plates", *options)
    assert code == 4
    assert "session 1 is at plates on this machine" in words
    assert "stop plates" in words
    assert (root / "runs/plates/run.json").is_file()


def test_a_fresh_sign_of_another_machine_is_enough_to_refuse(said, left, root):
    rank = left.session(1, machine={"boot": "another", "pid": 1, "since": "1"})
    left.trained(rank, 10)
    code, words = said("rm", "plates", "--yes")
    assert code == 4
    assert "on another machine" in words
    assert (root / "runs/plates").is_dir()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(wiring, "answer_within_s", lambda traits: 2.0)


def test_a_silent_machine_is_asked_for_a_sign_and_the_run_goes_without_one(said, left, root, impatient):
    rank = left.session(1, machine={"boot": "another", "pid": 1, "since": "1"})
    left.journal(rank, ago_s=100_000.0)
    code, words = said("rm", "plates", "--yes")
    assert code == 0, words
    assert "asking it for a sign" in words
    assert not (root / "runs/plates").exists()


def test_a_machine_that_answers_keeps_its_run(said, left, root, impatient, monkeypatch):
    rank = left.session(1, machine={"boot": "another", "pid": 1, "since": "1"})
    left.journal(rank, ago_s=100_000.0)
    look, looks = claims.look, []

    def look_later(*about):
        looks.append(about)
        if len(looks) == 3:
            claims.answer(left.store, left.run, rank, 1)
        return look(*about)

    monkeypatch.setattr(claims, "look", look_later)
    code, words = said("rm", "plates", "--yes")
    assert code == 4, words
    assert (root / "runs/plates").is_dir()


def test_takeover_asks_the_machine_to_end_and_removes_the_run_all_the_same(said, left, root, impatient):
    left.session(1, machine={"boot": "another", "pid": 1, "since": "1"})
    code, words = said("rm", "plates", "--takeover", "--yes")
    assert code == 0, words
    assert "asked session 1 to end at once" in words
    assert not (root / "runs/plates").exists()


@pytest.mark.parametrize("record", [b"", b'{"schema": 1', b"\0" * 40])
def test_a_run_with_a_torn_record_can_be_removed(said, left, root, record):
    (root / "runs/plates/run.json").write_bytes(record)
    code, words = said("rm", "plates", "--yes")
    assert code == 0, words
    assert not (root / "runs/plates").exists()


def test_a_removal_that_was_cut_short_is_finished_by_the_same_command(said, ended, root):
    for manifest in (root / "runs/plates").glob("e*/step-*/manifest*"):
        manifest.unlink()
    (root / "runs/plates/run.json").unlink()
    assert said("rm", "plates", "--yes")[0] == 0
    assert not (root / "runs/plates").exists()


def test_a_name_that_there_is_not_is_an_error_of_use(said, left):
    assert said("rm", "other", "--yes")[0] == 2
    assert said("rm")[0] == 2


def test_an_unpinned_checkpoint_goes_with_the_others(said, ended, root):
    assert said("checkpoints", "pin", "plates@10")[0] == 0
    assert list((root / "runs/plates").glob("pin-*"))
    code, words = said("checkpoints", "unpin", "plates@10")
    assert code == 0
    assert "unpinned" in words
    assert not list((root / "runs/plates").glob("pin-*"))
    code, words = said("checkpoints", "plates", "unpin", "10")
    assert code == 2
    assert "none is pinned" in words


def test_of_two_pins_the_one_that_stays_is_named(said, ended):
    said("checkpoints", "pin", "10")
    said("checkpoints", "pin", "20")
    assert said("checkpoints", "unpin", "20")[0] == 0
    assert "pinned are step 10" in said("checkpoints", "unpin", "20")[1]
