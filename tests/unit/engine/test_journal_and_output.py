"""Pieces of the journal and of the output: closed once, tried again under the same name, read as far as they can be."""

from __future__ import annotations

import errno
import json

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.claim import Rank
from supervisor.core.instant import Instant
from supervisor.core.status import RunStatus
from supervisor.engine import journal, output
from supervisor.engine.journal import Journal
from supervisor.engine.output import Output
from tests.faults import syscalls

RANK = Rank(1, "aa")


def at(seconds: float) -> Instant:
    return Instant(1_000.0 + seconds, seconds)


def beat(step: int) -> ev.TrainerSaid:
    return ev.TrainerSaid(messages.Beat(step, "step", seconds={}, longest_s={"step": 1.0}))


@pytest.fixture
def kept() -> Journal:
    return Journal(None, RunStatus(run="plates"))


def write(store, run, pieces) -> None:
    for name, body in pieces:
        store.create(f"{run.session(RANK)}/{name}", body)


def test_the_pieces_replay_to_the_status_that_was_published(kept, store, run):
    for second in range(6):
        kept.record(at(second), ev.Launched(100 + second))
        kept.record(at(second), beat(second))
        if second % 2:
            write(store, run, kept.take())
    assert journal.newest_status(store, run, RANK) == kept.status
    first = RunStatus(run="plates")
    assert journal.replay(first, list(journal.records(store, run, RANK))) == kept.status


def test_a_piece_whose_answer_was_lost_is_tried_again_under_its_name_so_that_nothing_is_told_twice(kept, store, run):
    kept.record(at(1), ev.Launched(1))
    first = kept.take()
    kept.put_back(first)
    kept.record(at(2), ev.Launched(2))
    again = kept.take()
    assert again[0] == first[0]
    assert [name for name, _ in again] == ["journal-000001.jsonl", "journal-000002.jsonl"]
    write(store, run, again)
    told = [record.value.pid for record in journal.records(store, run, RANK)]
    assert told == [1, 2]


def test_nothing_new_is_no_piece(kept):
    kept.record(at(1), ev.Launched(1))
    assert len(kept.take()) == 1
    assert kept.take() == []


def test_of_beats_in_a_row_the_last_is_kept(kept):
    for step in range(5):
        kept.record(at(step), beat(step))
    _, records = journal.parse_piece(kept.take()[0][1])
    assert [record.value.message.step for record in records] == [4]


def test_a_full_local_disk_does_not_end_the_session(kept, tmp_path):
    spool = tmp_path / "journal.jsonl"
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=str(spool))):
        kept.open_spool(spool)
        kept.record(at(1), ev.Launched(1))
    kept.record(at(2), do.Say("info", "there is room again"))
    assert "there is room again" in spool.read_text()
    assert len(kept.take()[0][1].splitlines()) == 3


@pytest.mark.parametrize(
    "head", [b"", b"{", b"[]", b'{"is":"RunStatus"}', b'{"is":"RunStatus","status":[]}', b'{"is":"RunStatus","status":{"durable_at":{"mono_s":1}}}']
)  # fmt: skip
def test_a_piece_with_a_damaged_beginning_is_read_as_far_as_it_can_be(kept, head):
    kept.record(at(1), ev.Launched(7))
    body = kept.take()[0][1].splitlines()[1]
    _, records = journal.parse_piece(b"\n".join([head, b"\xff garbage", body, b'{"is": "Launched"']))
    assert [record.value.pid for record in records] == [7]


def test_twins_and_order_of_pieces(store, run):
    for name in ("journal-000010.jsonl", "journal-000002.jsonl", "journal-000002 (1).jsonl", "journal-x.jsonl"):
        store.create(f"{run.session(RANK)}/{name}", b"{}\n")
    assert journal.piece_names(store, run, RANK) == [
        "journal-000002 (1).jsonl", "journal-000002.jsonl", "journal-000010.jsonl",
    ]  # fmt: skip


def test_a_status_goes_through_json_and_back():
    status = RunStatus(run="plates", durable=5, durable_at=at(3))
    assert journal.status_from_plain(json.loads(json.dumps(journal.plain_status(status)))) == status


def test_output_is_handed_out_once_and_again_under_its_name_after_a_failure(tmp_path):
    printed = Output()
    printed.begin(1, tmp_path / "output.log")
    printed.add(b"one\n")
    first = printed.take()
    printed.put_back(first)
    printed.add(b"two\n")
    assert printed.take() == [*first, ("output-0001-000002.log", b"two\n")]
    assert printed.take() == []
    assert (tmp_path / "output.log").read_bytes() == b"one\ntwo\n"


def test_a_full_local_disk_does_not_stop_the_reader_of_the_trainer_s_output(tmp_path):
    printed = Output()
    printed.begin(1, tmp_path / "output.log")
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=str(tmp_path))):
        assert printed.add(b"line\nhalf") == [b"line"]
    assert printed.add(b" a line\n") == [b"half a line"]
    assert printed.take()[0][1] == b"line\nhalf a line\n"


def test_while_the_store_is_away_the_memory_for_output_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "PIECE_BYTES_MAX", 100)
    printed = Output()
    printed.begin(1, tmp_path / "output.log")
    for number in range(50):
        printed.add(b"%03d " % number * 8)
        printed.put_back(printed.take())
    pieces = printed.take()
    assert sum(len(body) for _, body in pieces) <= 100
    assert pieces[-1][1].startswith(b"049")


def test_a_progress_bar_shows_its_last_state(tmp_path):
    printed = Output()
    printed.begin(1, tmp_path / "output.log")
    assert printed.add(b"10%\r50%\r100%\n") == [b"100%"]
    assert list(printed.tail) == ["100%"]
