"""Listing, verifying, exporting, pinning and pruning checkpoints that machines left."""

import json
from collections import Counter
from functools import partialmethod

import pytest

from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.stores.folder import FolderStore


@pytest.fixture
def four(left):
    """Four checkpoints of one session that has ended; its journal calls all but the last DURABLE."""
    rank = left.session(1, options={"keep_last": 2})
    ids = [left.checkpoint(rank, step, f"weights {step}".encode()) for step in (10, 20, 30, 40)]
    left.journal(rank, *(ev.Durable("", id_, 10, 0.1, "fsync") for id_ in ids[:3]))
    left.end(rank, "stopped", 143)
    left.ids = ids
    return left


def damage(left, id_):
    left.file(id_, "state.json").write_bytes(b"wEights 40")


def test_a_run_without_a_checkpoint_says_so(said, left):
    code, words = said("checkpoints")
    assert code == 0
    assert "plates: no checkpoint yet" in words


def test_the_list_tells_the_durable_from_the_submitted_and_why_each_stays(said, four):
    code, words = said("checkpoints", "--json")
    rows = json.loads(words)
    assert code == 0
    assert [(row["step"], row["state"]) for row in rows] == [
        (10, "DURABLE"), (20, "DURABLE"), (30, "DURABLE"), (40, "SUBMITTED"),
    ]  # fmt: skip
    assert rows[0]["kept"] is None
    assert rows[2]["kept"] == "among the newest 2"
    assert rows[3]["kept"] == "not yet behind enough safe ones"
    assert rows[0]["evidence"] == "fsync"
    assert all(row["bytes"] == row["sent_bytes"] > 0 for row in rows)


def test_one_that_a_later_machine_went_on_from_is_proved_by_that(said, four):
    rank = four.session(2)
    four.journal(rank, ev.CheckpointReady("/restored", four.ids[3]))
    rows = json.loads(said("checkpoints", "--json")[1])
    assert (rows[3]["state"], rows[3]["evidence"]) == ("DURABLE", "verified")


def test_the_list_shows_what_lies_staged_on_this_machine_only(said, four, root):
    run_id = json.loads((root / "runs/plates/run.json").read_text())["id"]
    staged = root / "local/training-supervisor" / run_id / "e00000001-00000001/staging/step-000000050-2"
    staged.mkdir(parents=True)
    assert json.loads(said("checkpoints", "--json")[1])[-1]["state"] == "STAGED"


def test_verifying_whole_checkpoints_ends_0(said, four):
    code, words = said("checkpoints", "verify")
    assert code == 0
    assert "plates: 4 verified" in words


def test_verifying_a_damaged_one_names_it_and_ends_1(said, four):
    damage(four, four.ids[3])
    code, words = said("checkpoints", "plates", "verify")
    assert code == 1
    assert "step 40 of session 1: damaged: state.json is damaged" in words
    assert "plates: 1 damaged, 3 verified" in words


def test_verifying_leaves_nothing_on_the_local_disk(said, four, root):
    said("checkpoints", "verify", "--json")
    assert not [each for each in (root / "local").rglob("*") if each.is_file()]


def test_an_export_holds_the_proved_files_and_the_step_log_up_to_it(said, four, root):
    code, words = said("checkpoints", "export", "20", "out")
    assert code == 0, words
    assert (root / "out/state.json").read_bytes() == b"weights 20"
    rows = [json.loads(line) for line in (root / "out/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(20))


def test_the_export_of_a_damaged_step_is_refused_and_nothing_older_is_taken(said, four, root):
    damage(four, four.ids[3])
    code, words = said("checkpoints", "export", "40", "out")
    assert code == 1
    assert "nothing was exported: step 40 of session 1: damaged" in words
    assert not (root / "out").exists()


def test_the_export_of_the_latest_walks_back_and_says_so(said, four, root):
    damage(four, four.ids[3])
    code, words = said("checkpoints", "export", "latest", "out")
    assert code == 0
    assert "passed over: step 40 of session 1: damaged" in words
    assert (root / "out/state.json").read_bytes() == b"weights 30"


def test_an_export_never_overwrites_a_folder_that_holds_something(said, four, root):
    (root / "out").mkdir()
    (root / "out/mine").write_text("mine")
    code, words = said("checkpoints", "export", "latest", "out")
    assert code == 2
    assert "the folder out is not empty" in words
    assert [each.name for each in (root / "out").iterdir()] == ["mine"]


def test_an_export_into_an_empty_folder_fills_it(said, four, root):
    (root / "out").mkdir()
    assert said("checkpoints", "export", "latest", "out")[0] == 0
    assert (root / "out/checkpoint.json").is_file()


@pytest.mark.parametrize("words", [("export", "latest"), ("pin",), ("one", "two"), ("pin", "77"), ("pin", "x")])
def test_words_that_cannot_be_understood_end_in_two_lines(said, four, words):
    code, text = said("checkpoints", *words)
    assert code == 2
    assert len(text.splitlines()) == 2


def test_a_pinned_checkpoint_is_listed_so_and_outlives_a_pruning(said, four):
    assert said("checkpoints", "pin", "10")[0] == 0
    assert "pinned already" in said("checkpoints", "pin", "10")[1]
    assert json.loads(said("checkpoints", "--json")[1])[0]["pinned"] is True
    assert said("checkpoints", "prune", "--yes")[0] == 0
    assert [row["step"] for row in json.loads(said("checkpoints", "--json")[1])] == [10, 30, 40]


def test_pruning_only_says_what_would_go_until_it_is_told_to(said, four):
    code, words = said("checkpoints", "prune")
    assert code == 0
    assert "2 of 4 would go" in words
    assert "prune --yes" in words
    assert len(json.loads(said("checkpoints", "--json")[1])) == 4


def test_pruning_counts_only_whole_ones_as_a_reason_to_remove(said, four):
    damage(four, four.ids[3])
    said("checkpoints", "prune", "--yes")
    assert [row["step"] for row in json.loads(said("checkpoints", "--json")[1])] == [20, 30, 40]


def test_pruning_is_refused_while_a_session_may_live(said, four):
    four.session(2)
    code, words = said("checkpoints", "prune", "--yes")
    assert code == 4
    assert "it removes old checkpoints by itself" in words
    assert "stop plates" in words


def test_the_list_reads_each_file_of_a_run_of_many_machines_once_or_twice(said, left, monkeypatch):
    """Neither reads nor comparisons may grow with the square of the sessions: a long run has thousands."""
    sessions = 60
    for epoch in range(1, sessions + 1):
        rank = left.session(epoch)
        id_ = left.checkpoint(rank, 10 * epoch)
        left.journal(rank, ev.Submitted("", id_, 10), ev.Durable("", id_, 10, 0.1, "fsync"))
        left.end(rank, "handed-over", 42)
    calls = Counter()
    for name in ("read", "list"):
        right = getattr(FolderStore, name)
        monkeypatch.setattr(FolderStore, name, partialmethod(_counted, right, calls, name))
    ranks = []
    right_rank = CheckpointId.rank.fget
    monkeypatch.setattr(CheckpointId, "rank", property(lambda id_: (ranks.append(id_), right_rank(id_))[1]))
    code, words = said("checkpoints", "--json")
    assert code == 0
    assert [row["state"] for row in json.loads(words)] == ["DURABLE"] * sessions
    assert calls["read"] <= 4 * sessions + 20
    assert calls["list"] <= 4 * sessions + 20
    assert len(ranks) <= 4 * sessions


def _counted(store, right, calls, name, path):
    calls[name] += 1
    return right(store, path)
