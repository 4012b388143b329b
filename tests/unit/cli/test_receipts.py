"""What is proved safe, by what and when: shown in the list, asked for by `verify`, and left as a receipt for all machines."""

import json

import pytest

from supervisor import wiring
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.messages import Staged
from supervisor.engine import receipts
from tests.unit.cli.away import Drive

ELSEWHERE = {"boot": "another", "processes": "pid:[1]", "pid": 7, "since": "7", "host": "another"}


@pytest.fixture
def drive(left, monkeypatch):
    """The run's store is on a drive now."""
    made = Drive(left.store.root)
    monkeypatch.setattr(wiring, "open_store", lambda *_, **__: made)
    left.drive = made
    return left


def written(left, machine, *steps, proved=()):
    rank = left.session(1, machine)
    ids = [left.checkpoint(rank, step, f"weights {step}".encode()) for step in steps]
    values = [ev.Submitted("", id_, 10) for id_ in ids]
    left.journal(rank, *values, *(ev.Durable("", id_, 10, 0.1, "drivefs") for id_ in ids if id_.step in proved))
    left.end(rank, "stopped", 143)
    return ids


def listed(said):
    return {row["step"]: row for row in json.loads(said("checkpoints", "--json")[1])}


def test_the_list_says_what_proves_each_and_when(said, drive):
    written(drive, ELSEWHERE, 10, 20, proved=(10,))
    rows = listed(said)
    assert (rows[10]["state"], rows[10]["evidence"]) == ("DURABLE", "drivefs")
    assert (rows[20]["state"], rows[20]["evidence"], rows[20]["proved_at"]) == ("SUBMITTED", None, None)
    assert rows[10]["proved_at"] == pytest.approx(rows[10]["made"])
    words = said("checkpoints")[1]
    assert "safe     Drive: uploaded, 1 min ago" in words
    assert "written  not safe yet" in words


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ("fsync", "flushed to disk"),
        ("rclone", "rclone: uploaded"),
        ("flush", "all sent when its session ended"),
        ("drivefs+verified", "Drive: uploaded, verified on another machine"),
    ],
)
def test_each_evidence_has_its_words(said, left, evidence, words):
    rank = left.session(1)
    id_ = left.checkpoint(rank, 10)
    left.journal(rank, ev.Durable("", id_, 10, 0.1, evidence))
    assert words in said("checkpoints")[1]


def test_what_was_sent_at_the_end_of_a_session_is_safe(said, drive):
    rank = drive.session(1, ELSEWHERE)
    id_ = drive.checkpoint(rank, 10)
    drive.journal(rank, ev.Submitted("", id_, 10), ev.Flushed(id_))
    assert (listed(said)[10]["state"], listed(said)[10]["evidence"]) == ("DURABLE", "flush")


def test_reading_it_whole_on_another_machine_proves_it_for_all_machines(said, drive):
    (id_,) = written(drive, ELSEWHERE, 10)
    code, words = said("checkpoints", "verify")
    assert code == 0
    assert "step 10 of session 1: verified" in words
    assert "verified on another machine" in words
    assert receipts.receipts(drive.store, drive.run) == {id_}
    row = listed(said)[10]
    assert (row["state"], row["evidence"]) == ("DURABLE", "verified")
    assert "safe in Drive: step 10, 0 s ago" in said("status")[1]


def test_a_second_verification_leaves_no_second_receipt(said, drive):
    written(drive, ELSEWHERE, 10)
    said("checkpoints", "verify")
    said("checkpoints", "verify")
    assert len(list((drive.root / "runs/plates").glob("verified-*"))) == 1


def test_a_damaged_one_gets_no_receipt(said, drive):
    ids = written(drive, ELSEWHERE, 10, 20)
    drive.file(ids[1], "state.json").write_bytes(b"wEights 20")
    assert said("checkpoints", "verify")[0] == 1
    assert receipts.receipts(drive.store, drive.run) == {ids[0]}


def test_reading_it_on_the_machine_that_wrote_it_proves_nothing_where_no_proof_can_be_had(said, drive, mine):
    written(drive, mine, 10)
    drive.drive.possible = False
    words = said("checkpoints", "verify")[1]
    assert "read on the machine that wrote it, so it proves nothing about the upload" in words
    assert listed(said)[10]["state"] == "SUBMITTED"


def test_a_machine_of_the_same_name_after_a_restart_is_not_another_one(said, drive, mine):
    written(drive, {**mine, "boot": "before"}, 10)
    drive.drive.possible = False
    said("checkpoints", "verify")
    assert not receipts.receipts(drive.store, drive.run)


def test_on_the_machine_that_wrote_it_the_client_is_asked_twice_for_every_file(said, drive, mine):
    written(drive, mine, 10)
    words = said("checkpoints", "verify")[1]
    assert "B); Drive: uploaded" in words
    assert listed(said)[10]["evidence"] == "drivefs"


def test_what_the_client_has_not_uploaded_is_whole_and_not_confirmed(said, drive, mine):
    written(drive, mine, 10)
    drive.drive.refuses = None
    words = said("checkpoints", "verify")[1]
    assert ": verified (" in words
    assert "not safe: Drive has not uploaded it yet" in words
    assert listed(said)[10]["state"] == "SUBMITTED"


def test_the_client_must_say_it_twice_in_a_row(said, drive, mine):
    written(drive, mine, 10)
    drive.drive.refuses = 2
    assert "not safe" in said("checkpoints", "verify")[1]
    assert not receipts.receipts(drive.store, drive.run)


def test_a_store_that_takes_no_receipt_still_verifies(said, drive, monkeypatch):
    written(drive, ELSEWHERE, 10)
    from supervisor.core.ports import StoreError

    def refuse(*_):
        raise StoreError("Permission denied", "read-only")

    monkeypatch.setattr(drive.drive, "create", refuse)
    code, words = said("checkpoints", "verify")
    assert code == 0
    assert "no receipt of it could be written: Permission denied" in words


def test_receipts_are_read_under_the_names_that_a_drive_gives_to_twins(left):
    left.session(1)
    left.store.create("plates/verified-1-10-00000001-1-abcd (1).json", b"")
    assert receipts.receipts(left.store, left.run) == {CheckpointId(1, 10, "00000001", 1)}
    assert receipts.read(left.store, left.run)[CheckpointId(1, 10, "00000001", 1)].evidence == "verified"


def test_receipts_go_with_their_checkpoints(said, drive):
    written(drive, ELSEWHERE, 10, 20, 30, 40)
    said("checkpoints", "verify")
    assert said("checkpoints", "prune", "--yes")[0] == 0
    assert {id_.step for id_ in receipts.receipts(drive.store, drive.run)} == set(listed(said))
    assert len(listed(said)) == 2


def test_on_a_drive_nothing_goes_behind_what_is_whole_and_not_proved(said, drive, mine):
    written(drive, mine, 10, 20, 30, 40, proved=(10,))
    words = said("checkpoints", "prune")[1]
    assert "0 of 4 would go" in words
    assert "3 of them are not safe, and make none go" in words
    said("checkpoints", "prune", "--yes")
    assert set(listed(said)) == {10, 20, 30, 40}


def test_a_receipt_counts_for_the_status_too(said, drive):
    written(drive, ELSEWHERE, 10, 20, proved=(10,))
    assert "safe in Drive: step 10, 1 min ago" in said("status")[1]
    said("checkpoints", "verify")
    plain = json.loads(said("status", "--json")[1])
    assert plain["checkpoints"]["durable"] == 20
    assert plain["evidence"] == "verified"
    assert plain["unconfirmed_s"] is None


def test_files_that_wait_for_their_proof_are_listed_before_there_is_a_manifest(said, drive):
    rank = drive.session(1, ELSEWHERE)
    drive.journal(rank, ev.Submitted("", CheckpointId(1, 30, rank.writer, 3), 10))
    row = listed(said)[30]
    assert row["state"] == "SUBMITTED"
    assert row["made"] is not None
    assert "its manifest comes when its files are safe" in row["kept"]


def test_an_upload_that_failed_is_not_listed(said, drive):
    rank = drive.session(1, ELSEWHERE)
    id_ = CheckpointId(1, 30, rank.writer, 3)
    drive.journal(rank, ev.Submitted("", id_, 10), ev.PublishFailed("", "full"))
    assert not listed(said)


def test_a_staged_one_says_since_when_it_lies_here(said, drive, root, mine):
    rank = drive.session(1, mine)
    run_id = json.loads((root / "runs/plates/run.json").read_text())["id"]
    staged = root / "local/training-supervisor" / run_id / str(rank) / "staging/step-000000050-2"
    staged.mkdir(parents=True)
    drive.journal(rank, ev.TrainerSaid(Staged(50, str(staged), 10, "time", 0.0, 0.0)))
    row = listed(said)[50]
    assert row["state"] == "STAGED"
    assert row["made"] is not None


def test_a_checkpoint_read_again_on_the_same_boot_is_not_called_verified_elsewhere(said, left, mine):
    first, second = left.session(1, mine), left.session(2, {**mine, "pid": 1})
    id_ = left.checkpoint(first, 10)
    left.journal(second, ev.CheckpointReady("/restored", id_))
    assert listed(said)[10]["evidence"] == "fsync"


def test_one_that_was_proved_and_removed_is_not_listed_for_what_its_session_left_on_this_disk(said, drive, root, mine):
    rank = drive.session(1, mine)
    run_id = json.loads((root / "runs/plates/run.json").read_text())["id"]
    staged = root / "local/training-supervisor" / run_id / str(rank) / "staging/step-000000050-2"
    staged.mkdir(parents=True)
    id_ = CheckpointId(1, 50, rank.writer, 2)
    drive.journal(
        rank,
        ev.TrainerSaid(Staged(50, str(staged), 10, "time", 0.0, 0.0)),
        ev.Submitted("", id_, 10),
        ev.Durable("", id_, 10, 0.1, "drivefs"),
    )
    assert not listed(said)
