"""Which store and which run a command is about, and the two lines where that is not clear."""

import json

import pytest

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


@pytest.mark.parametrize("verb", VERBS)
def test_several_runs_are_named_where_none_was_chosen(said, make, verb):
    make("one")
    make("two")
    code, words = said(verb)
    assert code == 2
    assert words.splitlines() == [
        "error: there are several runs; say which",
        "  try: give its name behind the verb; the store has one, two",
    ]


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
    assert lines[1].split()[:3] == ["one", "PENDING", "0"]
    assert lines[2].split()[:5] == ["two", "SUCCEEDED", "40/100", "40", "1"]
    code, words = said("list", "--json")
    assert [each["state"] for each in json.loads(words)] == ["PENDING", "SUCCEEDED"]
