"""Which store and which run a command is about, and the two lines where that is not clear."""

import json
import shlex

import pytest

from supervisor.cli import main, start
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import program
from supervisor.core.messages import Beat
from supervisor.engine import identity

VERBS = ("status", "logs", "stop", "resume", "checkpoints")


def test_the_list_of_an_absent_store_is_empty_and_says_how_to_start(said, root):
    code, words = said("list")
    assert code == 0
    assert words.splitlines()[0] == "no runs in ./runs yet"
    assert "python3 -m supervisor start" in words


def test_the_list_of_an_absent_store_is_an_empty_array_for_programs(said, root):
    assert said("list", "--json") == (0, "[]\n")


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_store_ends_in_two_lines_for_every_verb_that_needs_a_run(said, root, verb):
    code, words = said(verb)
    assert code == 2
    assert words.splitlines()[0] == "error: no runs in ./runs yet"
    assert len(words.splitlines()) == 2


def test_a_listing_makes_no_folder(said, root):
    said("list")
    assert not (root / "runs").exists()


@pytest.mark.parametrize("verb", ["status", "logs", "resume", "checkpoints"])
def test_several_runs_are_named_where_nothing_tells_which_is_the_newest(said, make, verb):
    make("one")
    make("two")
    code, words = said(verb)
    assert code == 2
    assert words.splitlines() == [
        "error: there are several runs; say which",
        "  try: give its name behind the verb; the store has one, two",
    ]


MINE = identity.mine()


def served(left, epoch: int, step: int, *, ago_s: float, machine=None) -> None:
    rank = left.session(epoch, machine)
    left.journal(rank, do.Announce(phase="RUNNING", state="RUNNING"), ev.TrainerSaid(Beat(step, "step")), ago_s=ago_s)
    if machine is None:
        left.end(rank, "stopped", 130)


@pytest.mark.parametrize("verb", ["status", "logs", "checkpoints"])
def test_without_a_name_the_newest_run_is_taken_and_said(told, make, verb):
    for name, ago_s in (("old", 500.0), ("new one", 50.0), ("older", 5000.0)):
        served(make(name), 1, 10, ago_s=ago_s)
    make("never served")
    _, _, errors = told(verb)
    assert errors.splitlines()[0] == "this is about new one, the newest run of 4; give another's name behind the verb"


def test_resume_without_a_name_takes_the_newest_run(make, root, monkeypatch):
    for name, ago_s in (("old", 500.0), ("new", 50.0)):
        served(make(name), 1, 10, ago_s=ago_s)
    started = []
    monkeypatch.setattr(start, "serve", lambda script, arguments, options: started.append(options.name) or 0)
    assert main(["resume", "--trust-store"]) == 0
    assert started == ["new"]


@pytest.mark.parametrize("verb", ["status", "logs", "checkpoints"])
def test_without_a_name_the_live_run_is_taken_before_a_newer_one(told, make, verb):
    served(make("live"), 1, 10, ago_s=500.0, machine=MINE)
    served(make("newer"), 1, 10, ago_s=5.0)
    code, _, errors = told(verb)
    assert (code, errors.splitlines()[0]) == (
        0,
        "this is about live, the live run of 2; give another's name behind the verb",
    )


@pytest.mark.parametrize("verb", ["logs", "checkpoints", "stop", "resume"])
def test_several_live_runs_are_asked_about(said, make, verb):
    for name in ("one", "two"):
        served(make(name), 1, 10, ago_s=5.0, machine=MINE)
    make("three")
    code, words = said(verb)
    assert (code, words) == (2, "error: 2 runs are live; say which\n  try: give its name behind the verb: one, two\n")


def test_status_shows_all_live_runs(said, make):
    for name in ("one", "two"):
        served(make(name), 1, 10, ago_s=5.0, machine=MINE)
    served(make("three"), 1, 10, ago_s=5.0)
    code, words = said("status")
    assert code == 0
    assert [line.split(":")[0] for line in words.splitlines() if line and line[0] != " "] == ["one", "two"]
    assert said("status", "--json")[0] == 2


def test_a_run_that_is_silent_on_another_machine_is_not_taken_for_live(told, make):
    served(make("gone"), 1, 10, ago_s=50_000.0, machine={"boot": "another", "pid": 1, "since": "1"})
    served(make("new"), 1, 10, ago_s=50.0)
    assert "about new, the newest run" in told("status")[2]


def test_stop_without_a_name_needs_a_live_run(said, make):
    for name in ("one", "two"):
        served(make(name), 1, 10, ago_s=5.0)
    code, words = said("stop")
    assert code == 2
    assert words.startswith("error: no run is live: there is nothing to stop\n  try: `python3 -m supervisor list`")


@pytest.mark.parametrize("name", ["-dashes", "list", "--x", "a b", "训练"])
@pytest.mark.parametrize("verb", ["status", "logs", "checkpoints"])
def test_each_name_can_be_given(told, make, verb, name):
    served(make(name), 1, 10, ago_s=5.0)
    served(make("other"), 1, 10, ago_s=1.0)
    words = shlex.split(program.of_run(verb, name, *(["list"] if verb == "checkpoints" else [])))
    code, out, errors = told(*words)
    assert code == 0, errors
    assert "this is about" not in errors
    assert name in out + errors


@pytest.mark.parametrize("name", ["three", "../runs", "a/b", ""])
def test_a_run_that_is_not_there_is_said_with_those_that_are(said, left, name):
    code, words = said("status", name)
    assert code == 2
    assert "there is no run" in words
    assert "the store has plates" in words


@pytest.mark.slow
def test_a_store_that_is_a_file_ends_in_two_lines(said, root):
    (root / "file").write_text("")
    code, words = said("list", "--store", "file")
    assert code == 4
    assert len(words.splitlines()) == 2
    assert "cannot be used" in words


def test_the_list_shows_each_run_with_its_state(said, make):
    make("one")
    two = make("two")
    rank = two.session(1)
    two.trained(rank, 40)
    two.end(rank, "succeeded")
    code, words = said("list")
    assert code == 0
    lines = words.splitlines()
    assert lines[1].split()[:4] == ["one", "NOT", "STARTED", "0"]
    assert lines[2].split()[:5] == ["two", "SUCCEEDED", "40/100", "40", "1"]
    code, words = said("list", "--json")
    assert [each["state"] for each in json.loads(words)] == ["PENDING", "SUCCEEDED"]
