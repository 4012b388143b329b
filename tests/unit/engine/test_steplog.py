"""Rows of the step log: kept here until they are safe, joined over machines without a gap or a repeat."""

from __future__ import annotations

import errno
import json
import shutil

import pytest

from supervisor.core.claim import Rank
from supervisor.core.content import LOG_FILE
from supervisor.core.ports import StoreError
from supervisor.engine import steplog
from supervisor.engine.steplog import StepLog, joined, next_number, piece_name
from tests.faults import syscalls


def rows(*steps: int, life: int = 1) -> bytes:
    return b"".join(json.dumps({"step": step, "life": life}).encode() + b"\n" for step in steps)


def staged(folder, *steps: int, life: int = 1):
    folder.mkdir()
    (folder / LOG_FILE).write_bytes(rows(*steps, life=life))
    return folder


def steps_of(body: bytes) -> list[int]:
    return [json.loads(line)["step"] for line in body.splitlines()]


@pytest.fixture
def log(tmp_path) -> StepLog:
    return StepLog(tmp_path / "steps.jsonl", 0)


def test_a_piece_holds_the_rows_up_to_its_checkpoint_and_no_more(log, tmp_path):
    log.take(staged(tmp_path / "a", 0, 1, 2))
    log.take(staged(tmp_path / "b", 3, 4, 5))
    assert [log.piece(4)[0], steps_of(log.piece(4)[1])] == [0, [0, 1, 2, 3]]


def test_rows_that_are_safe_are_not_handed_out_again(log, tmp_path):
    log.take(staged(tmp_path / "a", 0, 1, 2))
    log.published(2)
    log.take(staged(tmp_path / "b", 3))
    assert [log.piece(9)[0], steps_of(log.piece(9)[1])] == [2, [2, 3]]


def test_a_step_that_was_computed_twice_has_its_later_row(log, tmp_path):
    log.take(staged(tmp_path / "a", 0, 1, 2, life=1))
    log.take(staged(tmp_path / "b", 1, 2, 3, life=2))
    lives = [json.loads(line)["life"] for line in log.piece(9)[1].splitlines()]
    assert lives == [1, 2, 2, 2]


def test_rows_taken_while_the_disk_is_full_are_not_lost_and_leave_no_half_line(log, tmp_path):
    folder = staged(tmp_path / "a", 0, 1)
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=str(log.path))):
        log.take(folder)
        assert steps_of(log.piece(9)[1]) == [0, 1]
    log.take(staged(tmp_path / "b", 2))
    assert steps_of(StepLog.piece(log, 9)[1]) == [0, 1, 2]
    assert [row["step"] for row in steplog.read_lines(log.path)[1:]] == [0, 1, 2]


def test_an_error_on_closing_the_file_before_loses_no_row(tmp_path):
    failed: list[str] = []

    def bad_close(call: syscalls.Call):
        result = call.go()
        if call.name == "close" and call.path.endswith(("steps.new", "steps.jsonl")):
            failed.append(call.path)
            raise OSError(errno.EIO, "Input/output error", call.path)
        return result

    with syscalls.bent(bad_close):
        log = StepLog(tmp_path / "steps.jsonl", 0)
        log.take(staged(tmp_path / "a", 0, 1))
        log.published(1)
        log.take(staged(tmp_path / "b", 2))
        assert [log.piece(9)[0], steps_of(log.piece(9)[1])] == [1, [1, 2]]
    assert failed
    assert [row["step"] for row in steplog.read_lines(log.path)[1:]] == [1, 2]


def test_a_torn_last_line_of_a_dead_session_is_left_out_and_its_folder_gives_the_row_again(log, tmp_path):
    dead = tmp_path / "dead.jsonl"
    dead.write_bytes(b'{"from": 2}\n' + rows(2, 3) + b'{"step": 4, "lo')
    log.adopt(dead, [staged(tmp_path / "a", 4, 5)])
    assert [log.piece(9)[0], steps_of(log.piece(9)[1])] == [0, [2, 3, 4, 5]]


def test_adopting_goes_back_to_what_the_dead_session_had_not_published(tmp_path):
    dead = StepLog(tmp_path / "dead.jsonl", 10)
    dead.take(staged(tmp_path / "a", 10, 11))
    log = StepLog(tmp_path / "steps.jsonl", 12)
    log.adopt(dead.path, [])
    assert [log.piece(20)[0], steps_of(log.piece(20)[1])] == [10, [10, 11]]


@pytest.mark.parametrize("body", [b"", b'{"fro', b'{"step": 3}\n'])
def test_a_dead_session_s_file_without_its_first_line_covers_nothing(tmp_path, body):
    path = tmp_path / "steps.jsonl"
    path.write_bytes(body)
    assert not steplog.covers(path)
    assert not steplog.covers(tmp_path / "absent")


def test_a_row_with_a_value_called_from_is_a_row(log, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / LOG_FILE).write_text('{"step": 0, "from": "cache"}\n')
    log.take(tmp_path / "a")
    assert steps_of(log.piece(1)[1]) == [0]


def put(store, run, rank: Rank, number: int, span: tuple[int, int], *, life: int = 1) -> None:
    name = piece_name(number, *span)
    store.create(f"{run.session(rank)}/{name}", rows(*range(*span), life=life))


def test_a_machine_that_went_on_from_further_back_replaces_the_rows_it_computed_again(store, run):
    put(store, run, Rank(1, "aa"), 1, (0, 5))
    put(store, run, Rank(1, "aa"), 2, (5, 10))
    put(store, run, Rank(2, "bb"), 1, (5, 7), life=2)
    assert [(row["step"], row["life"]) for row in joined(store, run)] == [
        *((step, 1) for step in range(5)), (5, 2), (6, 2),
    ]  # fmt: skip


def test_a_retried_piece_is_there_once(store, run):
    put(store, run, Rank(1, "aa"), 1, (0, 5))
    put(store, run, Rank(1, "aa"), 2, (0, 5))
    put(store, run, Rank(1, "aa"), 3, (5, 6))
    assert [row["step"] for row in joined(store, run)] == list(range(6))


def test_pieces_of_a_zombie_do_not_outlive_its_successor(store, run):
    put(store, run, Rank(2, "bb"), 1, (3, 6), life=2)
    put(store, run, Rank(1, "aa"), 1, (0, 3))
    put(store, run, Rank(1, "aa"), 2, (3, 9))
    assert [(row["step"], row["life"]) for row in joined(store, run)][3:] == [(3, 2), (4, 2), (5, 2)]


def test_a_session_whose_work_never_became_a_checkpoint_leaves_no_hole(store, run):
    put(store, run, Rank(1, "aa"), 1, (0, 3))
    put(store, run, Rank(2, "bb"), 1, (3, 9), life=2)
    put(store, run, Rank(3, "cc"), 1, (3, 5), life=3)  # began before the checkpoint at 9 was to be seen
    put(store, run, Rank(4, "dd"), 1, (9, 11), life=4)
    lives = [row["life"] for row in joined(store, run)]
    assert lives == [1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4]


def test_of_the_twins_of_a_piece_the_whole_one_counts(store, run):
    put(store, run, Rank(1, "aa"), 1, (0, 3))
    session = run.session(Rank(1, "aa"))
    store.create(f"{session}/log-000002-000000003-000000006.jsonl", rows(3, 4, life=1)[:-5])
    store.create(f"{session}/log-000002-000000003-000000006 (1).jsonl", rows(3, 4, 5, life=1))
    store.create(f"{session} (1)/log-000003-000000006-000000008.jsonl", rows(6, 7, life=1))
    assert [row["step"] for row in joined(store, run)] == list(range(8))


def test_a_torn_piece_whose_upload_was_tried_again_does_not_matter(store, run):
    session = run.session(Rank(1, "aa"))
    store.create(f"{session}/log-000001-000000000-000000005.jsonl", b'{"step": 0}\n{"step"')
    put(store, run, Rank(1, "aa"), 2, (0, 5))
    assert [row["step"] for row in joined(store, run)] == list(range(5))


def test_a_damaged_piece_is_said_by_name(store, run):
    store.create(f"{run.session(Rank(1, 'aa'))}/{piece_name(1, 0, 5)}", b'{"step": 0}\n{"step"')
    with pytest.raises(StoreError, match=r"log-000001-000000000-000000005\.jsonl is damaged"):
        list(joined(store, run))


def test_numbers_go_on_after_the_pieces_that_are_there(store, run):
    session = run.session(Rank(1, "aa"))
    assert next_number(store, session) == 1
    put(store, run, Rank(1, "aa"), 7, (0, 5))
    assert next_number(store, session) == 8
    assert steplog.names(store, session, 0, 5) == [piece_name(7, 0, 5)]
    assert steplog.names(store, session, 0, 6) == []


def test_joining_reads_each_piece_once(store, run, monkeypatch):
    for number in range(1, 40):
        put(store, run, Rank(number, "aa"), 1, (number, number + 3))
    read, real = [], store.read
    monkeypatch.setattr(store, "read", lambda path: (read.append(path), real(path))[1])
    assert [row["step"] for row in joined(store, run)] == list(range(1, 42))
    assert len(read) == len(set(read))


def test_rows_outlive_a_local_folder_that_somebody_empties(tmp_path):
    (tmp_path / "session").mkdir()
    log = StepLog(tmp_path / "session" / "steps.jsonl", 0)
    log.take(staged(tmp_path / "a", 0, 1))
    shutil.rmtree(tmp_path / "session")
    assert steps_of(log.piece(9)[1]) == [0, 1]
    log.take(staged(tmp_path / "b", 2))
    assert steps_of(log.piece(9)[1]) == [0, 1, 2]
    assert steplog.covers(tmp_path / "session" / "steps.jsonl")  # a successor can go on from it again
    shutil.rmtree(tmp_path / "session")
    log.published(2)
    assert steps_of(log.piece(9)[1]) == [2]
