"""The trainer's output over all sessions, each byte once, and the joined step log."""

import json

from supervisor.engine.printed import Printed


def put(left, rank, name, text):
    left.store.create(f"{left.run.session(rank)}/{name}", text.encode())


def test_output_of_all_sessions_and_attempts_comes_in_order(said, left):
    first, second = left.session(1), left.session(2)
    put(left, first, "output-0001-000001.log", "a\n")
    put(left, first, "output-0001-000002.log", "b\n")
    put(left, first, "output-0002-000003.log", "c\n")
    put(left, second, "output-0001-000001.log", "d\n")
    code, words = said("logs")
    assert code == 0
    assert words == "a\nb\n--- session 1, attempt 2\nc\n--- session 2, attempt 1\nd\n"


def test_one_session_or_one_attempt_can_be_chosen(said, left):
    first, second = left.session(1), left.session(2)
    put(left, first, "output-0001-000001.log", "a\n")
    put(left, first, "output-0002-000002.log", "b\n")
    put(left, second, "output-0001-000001.log", "c\n")
    assert said("logs", "--session", "1", "--attempt", "2") == (0, "b\n")
    assert said("logs", "--session", "2") == (0, "c\n")


def test_the_local_file_of_a_session_is_taken_instead_of_its_pieces(said, left, root):
    root = root / "0123456789abcdef" / "e00000001-aa"
    root.mkdir(parents=True)
    rank = left.session(1, local=str(root))
    put(left, rank, "output-0001-000001.log", "a\n")
    (root / "output-0001.log").write_text("a\nb\n")
    assert said("logs") == (0, "a\nb\n")


def test_what_was_given_out_is_not_given_out_again_when_the_local_file_goes(left, root):
    root = root / "0123456789abcdef" / "e00000001-aa"
    root.mkdir(parents=True)
    rank = left.session(1, local=str(root))
    (root / "output-0001.log").write_text("a\nb")
    printed = Printed(left.store, left.run)
    assert [text for _, text in printed.new_here(rank)] == [b"a\nb"]
    assert list(printed.new()) == []
    (root / "output-0001.log").unlink()
    put(left, rank, "output-0001-000001.log", "a\n")
    put(left, rank, "output-0001-000002.log", "bc\n")
    assert [text for _, text in printed.new()] == [b"c\n"]


def test_following_a_run_that_has_ended_prints_it_and_ends(said, left):
    rank = left.session(1)
    put(left, rank, "output-0001-000001.log", "a\n")
    left.end(rank, "succeeded")
    assert said("logs", "-f") == (0, "a\n")


def test_a_run_that_printed_nothing_says_so(said, left):
    left.session(1)
    code, words = said("logs")
    assert code == 0
    assert "plates: nothing was printed yet" in words


def test_the_step_log_is_a_table_for_people_and_json_lines_for_programs(said, left):
    left.checkpoint(left.session(1), 10)
    code, words = said("logs", "--steps")
    assert code == 0
    assert words.splitlines()[0].split() == ["step", "loss"]
    assert words.splitlines()[-1].split() == ["9", "1.125"]
    rows = [json.loads(line) for line in said("logs", "--steps", "--json")[1].splitlines()]
    assert rows[3] == {"step": 3, "loss": 0.375}


def test_a_finished_run_without_logged_values_says_that_there_are_none(said, left):
    rank = left.session(1)
    assert "no step is logged in the store yet" in said("logs", "--steps")[1]
    left.end(rank, "succeeded")
    code, words = said("logs", "--steps")
    assert code == 0
    assert "the script logged nothing" in words
    assert "yet" not in words
