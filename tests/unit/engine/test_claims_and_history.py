"""Who has been at a run, how they ended, and what is carried on of it."""

from __future__ import annotations

import json
import os

import pytest

from supervisor.core.claim import Rank
from supervisor.core.errors import FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.events import HistoryRead
from supervisor.core.ports import StoreError, Taken
from supervisor.engine import claims, history, identity, runs
from supervisor.engine.place import RunPlace

FIRST, SECOND = Rank(1, "aa"), Rank(2, "bb")


def unknown(_claimed: object) -> None:
    return None


def test_a_new_run_has_nobody(store, run):
    view = claims.look(store, run, unknown)
    assert (view.names, view.last, view.claim) == ((), None, {})


def test_the_highest_session_is_looked_at_closer(store, run):
    claims.write_claim(store, run, FIRST, {"machine": {"pid": 1}})
    claims.write_claim(store, run, SECOND, {"machine": {"pid": 2}})
    claims.write_end(store, run, FIRST, "stopped", {})
    view = claims.look(store, run, lambda machine: machine == {"pid": 2})
    assert view.last is not None
    assert (view.last.rank, view.last.end, view.last.alive, view.last.signs) == (SECOND, "", True, 1)


def test_an_epoch_is_taken_once(store, run):
    claims.write_claim(store, run, FIRST, {})
    with pytest.raises(Taken):
        claims.write_claim(store, run, FIRST, {})


def test_twins_of_a_session_are_one_session(store, run):
    store.create(f"{run.name}/{FIRST}/claim.json", b"{}")
    store.create(f"{run.name}/{FIRST} (1)/claim.json", b"{}")
    assert claims.ranks(store, run) == [FIRST]


def test_a_look_counts_the_questions_and_the_answers(store, run):
    claims.write_claim(store, run, FIRST, {})
    claims.knock(store, run, FIRST)
    claims.answer(store, run, FIRST, 1)
    claims.knock(store, run, FIRST)
    seen = claims.look(store, run, lambda _machine: None).last
    assert (seen.asked, seen.answered) == (2, 1)
    claims.answer(store, run, FIRST, 2)
    assert claims.look(store, run, lambda _machine: None).last.answered == 2


def test_a_damaged_claim_or_end_tells_what_its_name_tells(store, run):
    store.create(f"{run.session(FIRST)}/claim.json", b"\xff{")
    store.create(f"{run.session(FIRST)}/end-handed-over.json", b"")
    assert claims.read_claim(store, run, FIRST) == {}
    assert claims.read_end(store, run, FIRST) == {"reason": "handed-over"}


def test_a_request_to_stop_reaches_the_session_it_names_only(store, run):
    claims.request_stop(store, run, FIRST, "save")
    names = tuple(entry.name for entry in store.list(run.name))
    assert claims.stop_wanted(names, FIRST) == "save"
    assert claims.stop_wanted(names, SECOND) == ""
    claims.request_stop(store, run, FIRST, "now")
    assert claims.stop_wanted(tuple(entry.name for entry in store.list(run.name)), FIRST) == "now"


def test_history_is_carried_so_that_a_successor_reads_only_the_last_sessions(store, run, monkeypatch):
    claims.write_claim(store, run, FIRST, {"platform": "colab"})
    told = history.read(store, run, SECOND, unknown)
    assert told.lost == 1
    claims.write_claim(store, run, SECOND, {"platform": "colab"})
    history.carry(store, run, SECOND, told)
    third = Rank(3, "cc")
    read, real = [], store.read
    monkeypatch.setattr(store, "read", lambda path: (read.append(path), real(path))[1])
    again = history.read(store, run, third, unknown)
    assert again.lost == 2
    assert not [path for path in read if str(FIRST) in path]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"lives_s": 3}'])
def test_a_damaged_history_is_read_anew_from_the_sessions_before(store, run, body):
    claims.write_claim(store, run, FIRST, {})
    claims.write_claim(store, run, SECOND, {})
    store.create(f"{run.session(SECOND)}/{history.CARRIED}", body)
    told = history.read(store, run, Rank(3, "cc"), unknown)
    assert told.lost == 2


def test_nothing_before_is_an_empty_history(store, run):
    assert history.read(store, run, FIRST, unknown) == HistoryRead()


def test_a_process_knows_itself_alive_and_a_dead_one_dead():
    here = identity.mine()
    assert identity.alive(here) is True
    child = os.fork()
    if child == 0:
        os._exit(0)
    since = identity.started(child)
    os.waitpid(child, 0)
    assert identity.alive({**here, "pid": child, "since": since or "1"}) is False
    assert identity.started(child) is None


@pytest.mark.parametrize(
    "changed", [{"boot": "another"}, {"processes": "another"}, {"pid": "x"}, {"since": None}, {"boot": ""},
                {"machine": "another of the fleet"}]
)  # fmt: skip
def test_of_another_boot_or_process_table_nothing_is_known(changed):
    assert identity.alive({**identity.mine(), **changed}) is None


def test_a_pid_that_was_given_to_another_process_is_not_the_one_that_claimed():
    assert identity.alive({**identity.mine(), "since": "12345"}) is False


@pytest.mark.parametrize(
    ("there", "may"),
    [
        ({"boot": "a", "host": "one"}, True),
        ({"boot": "b", "host": "one"}, True),
        ({"boot": "a", "host": "two"}, True),
        ({"boot": "b", "host": "two"}, False),
        ({"boot": "", "host": ""}, False),
        ({}, False),
    ],
)
def test_only_another_boot_of_another_name_is_certainly_another_machine(there, may):
    """After a restart, or from a container beside, one reads what the drive has only in its cache."""
    assert identity.maybe_here(there, {"boot": "a", "host": "one"}) is may


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "project" / "train.py"
    path.parent.mkdir()
    path.write_text("pass\n")
    return path


def test_a_run_is_entered_again_under_the_same_id(store, run, script):
    first = runs.enter(store, run, script, ["--a"], {"seed": 1})
    assert runs.enter(store, run, script, ["--b"], {}).id == first.id
    assert runs.read(store, run) == first


def test_a_script_that_was_edited_is_the_same_run_s(store, run, script):
    first = runs.enter(store, run, script, [], {})
    script.write_text("print('better')\n")
    assert runs.enter(store, run, script, [], {}).id == first.id


def test_another_script_under_the_same_name_is_refused(store, run, script, tmp_path):
    runs.enter(store, run, script, [], {})
    other = tmp_path / "other.py"
    other.write_text("print(1)\n")
    with pytest.raises(UserError) as refused:
        runs.enter(store, run, other, [], {})
    assert "another script" in refused.value.what
    assert "--name" in refused.value.hint


def test_two_machines_that_enter_at_once_agree_on_one_record(store, run, script, monkeypatch):
    theirs = runs.enter(store, run, script, [], {})
    real, answers = runs.read_whole, iter([None])
    monkeypatch.setattr(runs, "read_whole", lambda *args: next(answers, None) or real(*args))
    assert runs.enter(store, run, script, [], {}).id == theirs.id


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", " leading", "x" * 101, "a\nb"])
def test_names_that_cannot_be_folders_are_refused(store, script, name):
    with pytest.raises(UsageError):
        runs.enter(store, RunPlace(name), script, [], {})


@pytest.mark.parametrize("kind", ["full", "read-only", "gone", "unreadable"])
def test_a_store_that_cannot_be_used_is_said_in_two_lines(store, kind):
    said = runs.cannot_use(store, StoreError("no answer", kind))
    assert said.exit_code == FAILED_PRECHECKS
    assert said.hint


def test_runs_are_the_folders_with_a_record(store, run, script):
    runs.enter(store, run, script, [], {})
    store.create("not a run/file", b"")
    assert runs.names(store) == [run.name]
    assert json.loads(store.read(run.record))["script"] == "train.py"


def test_how_long_machines_lived_is_learned_from_all_runs_of_the_store(store, run):
    for name, lives in (("older", [40000.0]), ("other", [41000.0, 80000.0]), ("toy", [1.0])):
        one = RunPlace(name)
        told = HistoryRead(reclaimed_on={"colab": tuple(lives), "slurm": (99.0,)})
        claims.write_claim(store, one, FIRST, {"platform": "colab"})
        history.carry(store, one, FIRST, told)
        claims.write_claim(store, one, SECOND, {})  # it died before it could carry anything
    assert history.lives_of_others(store, RunPlace("toy"), "colab") == (40000.0, 41000.0, 80000.0)
    assert history.lives_of_others(store, RunPlace("new"), "kaggle") == ()


def test_only_machines_of_our_own_platform_tell_how_long_ours_may_live(store, run):
    claims.write_claim(store, run, FIRST, {"platform": "colab"})
    history.carry(store, run, FIRST, HistoryRead(reclaimed_on={"colab": (40000.0,), "slurm": (9e5,)}))
    told = history.read(store, run, SECOND, unknown, "colab")
    assert told.reclaimed_s == (40000.0,)
    history.carry(store, run, SECOND, told)
    assert history.read(store, run, Rank(3, "cc"), unknown, "slurm").reclaimed_s == (9e5,)


def test_the_cost_of_learning_from_others_is_bounded(store, run, monkeypatch):
    for number in range(30):
        for epoch in range(1, 6):
            claims.write_claim(store, RunPlace(f"run-{number:02}"), Rank(epoch, "aa"), {})
    asked, read, listed = [], store.read, store.list
    monkeypatch.setattr(store, "read", lambda path: (asked.append(path), read(path))[1])
    monkeypatch.setattr(store, "list", lambda path: (asked.append(path), listed(path))[1])
    history.lives_of_others(store, run, "colab")
    assert len(asked) <= 1 + history.OTHER_RUNS_MAX * (1 + history.SESSIONS_BACK)
