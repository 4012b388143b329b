"""What `status` says of a run whose machines are not here any more, never were, or live on this one."""

import json
import os

import pytest

from supervisor import wiring
from supervisor.engine import here, identity, overview
from tests.unit.cli.away import Drive

KEYS = {
    "schema", "run", "id", "state", "cause", "platform", "epoch", "attempt", "recoveries", "step", "total_steps",
    "epoch_of_data", "steps_per_s", "eta_s", "deadline_in_s", "checkpoints", "durable_age_s", "next_save_in_s",
    "goodput", "badput", "metrics", "device", "started", "updated", "evidence", "place", "unconfirmed", "unconfirmed_s",
    "provable", "store_answers",
}  # fmt: skip


def seen(said, *words):
    code, text = said("status", "--json", *words)
    assert code == 0, text
    return json.loads(text)


def test_the_json_has_the_documented_keys_and_null_for_what_is_unknown(said, left):
    plain = seen(said)
    assert plain.keys() >= KEYS
    assert plain["schema"] == 1
    assert plain["state"] == "PENDING"
    assert plain["run"] == "plates"
    assert plain["step"] is None
    assert plain["checkpoints"] == {"staged": None, "submitted": None, "durable": None}
    assert plain["durable_age_s"] is None
    assert [plain[key] for key in ("place", "unconfirmed", "unconfirmed_s", "provable", "store_answers")] == [None] * 5


@pytest.mark.parametrize(
    ("reason", "exit_code", "state"),
    [
        ("succeeded", 0, "SUCCEEDED"),
        ("stopped", 143, "CANCELLED"),
        ("handed-over", 42, "PENDING"),
        ("failed", 1, "FAILED"),
        ("failed-setup", 3, "FAILED_SETUP"),
        ("failed", 3, "FAILED_SETUP"),
        ("failed", 4, "FAILED_PRECHECKS"),
        ("no-progress", 93, "FAILED"),
        ("controller-failed", 1, "FAILED_CONTROLLER"),
        ("unproved", 1, "FAILED"),
    ],
)
def test_an_end_gives_the_state_of_the_run(said, left, reason, exit_code, state):
    rank = left.session(1)
    left.trained(rank, 40)
    left.end(rank, reason, exit_code)
    plain = seen(said)
    assert plain["state"] == state
    assert plain["exit_code"] == exit_code
    assert plain["step"] == 40


def test_a_fenced_machine_leaves_the_state_to_the_one_that_has_the_run(said, left):
    first, second = left.session(1), left.session(2)
    left.trained(first, 40)
    left.end(first, "fenced", 75)
    left.trained(second, 60)
    assert seen(said)["state"] == "RUNNING"
    assert seen(said)["step"] == 60


def test_a_machine_that_cannot_be_seen_from_here_is_told_of_by_its_last_sign(said, left):
    left.trained(left.session(1), 40)
    code, words = said("status")
    assert code == 0
    assert "RUNNING · session 1 (local) on another machine; last sign 1 min ago" in words
    assert "may be gone" not in words


def test_a_silent_machine_may_be_gone(said, left):
    rank = left.session(1)
    left.journal(rank, ago_s=600.0)
    assert "last sign 10 min ago; it may be gone" in said("status")[1]


def test_on_a_drive_whose_names_show_late_silence_is_longer(said, left, monkeypatch):
    monkeypatch.setattr(wiring, "open_store", lambda *_, **__: Drive(left.store.root))
    left.journal(left.session(1), ago_s=150.0)
    words = said("status")[1]
    assert "last sign 2 min 30 s ago" in words
    assert "may be gone" not in words


def test_a_machine_known_to_be_dead_leaves_the_run_waiting_for_the_next(said, left, mine):
    left.trained(left.session(1, {**mine, "pid": 4_000_000}), 40)
    code, words = said("status")
    assert code == 0
    assert words.startswith("plates: INTERRUPTED · session 1 died on this machine without a word")
    assert "next: python3 -m supervisor resume plates" in words


def local_of(root):
    """Return the session's folder on the local disk, made where it is not there."""
    folder = root / "0123456789abcdef" / "e00000001-00000001"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_session_that_lives_here_is_shown_as_it_says_itself_right_now(said, left, mine, root):
    live = {"state": "RECOVERING", "step": 77, "updated": 1.0}
    (local_of(root) / "status.json").write_text(json.dumps(live))
    left.trained(left.session(1, mine, local=str(local_of(root))), 40)
    plain = seen(said)
    assert (plain["state"], plain["step"]) == ("RECOVERING", 77)


def test_a_new_session_is_starting_until_its_own_journal_says_more(said, left, mine):
    first = left.session(1)
    left.trained(first, 40)
    left.end(first, "succeeded")
    left.session(2, mine)
    plain = seen(said)
    assert (plain["state"], plain["epoch"], plain["step"]) == ("STARTING", 2, 40)


def test_a_manifest_beyond_the_journal_is_submitted_and_not_called_safe(said, left):
    rank = left.session(1)
    left.trained(rank, 40)
    left.checkpoint(rank, 60)
    assert seen(said)["checkpoints"] == {"staged": None, "submitted": 60, "durable": 40}
    assert "safe: step 40, 1 min ago (step 60 written but not safe yet)" in said("status")[1]


def test_earlier_machines_are_told_of_in_a_sentence_each(said, left):
    first, second = left.session(1), left.session(2)
    left.trained(first, 40)
    left.end(first, "handed-over", 42)
    left.trained(second, 60)
    assert "session 1 ended as planned" in said("status")[1]


def test_watching_a_run_that_has_ended_shows_it_once(said, left):
    rank = left.session(1)
    left.trained(rank, 100)
    left.end(rank, "succeeded", words="the script finished")
    code, words = said("status", "--watch")
    assert code == 0
    assert words.count("SUCCEEDED") == 1


def test_commands_that_are_shown_name_the_store_that_was_named(said, left):
    left.session(1)
    assert "stop plates --store runs" in said("status", "--store", "runs")[1]


NOTES = {
    "empty": b"", "zeros": bytes(400), "half": b'{"state": "RUNNING", "step": 7', "a list": b"[]", "no text": b"\xff\xfe",
    "deep": b"[" * 200_000, "wrong types": b'{"state": 5, "step": "x", "checkpoints": 7, "badput": [], "updated": {}}',
    "no checkpoints": b'{"state": "RUNNING", "checkpoints": {"durable": 3}}',
}  # fmt: skip


@pytest.mark.parametrize("body", NOTES.values(), ids=NOTES)
def test_a_damaged_live_status_is_none_and_the_store_is_believed(said, left, mine, root, body):
    """It is never flushed: a power loss leaves it empty, half or all zeros until the next start."""
    (local_of(root) / "status.json").write_bytes(body)
    left.trained(left.session(1, {**mine, "pid": 4_000_000}, local=str(local_of(root))), 40)
    for verb in (["status"], ["status", "--json"], ["list"], ["stop"]):
        code, words = said(*verb)
        assert code == 0
        assert "40" in words


@pytest.mark.parametrize("body", NOTES.values(), ids=NOTES)
def test_a_damaged_note_of_one_session_hides_no_other(root, body):
    run = root / "local"
    for epoch, status in ((1, body), (2, b'{"run": "plates", "store": "s", "state": "RUNNING"}')):
        folder = run / "0123" / f"e{epoch:08d}-a"
        folder.mkdir(parents=True)
        (folder / "status.json").write_bytes(status)
        (folder / "supervisor.json").write_text(
            json.dumps({"pid": os.getpid(), "since": identity.started(os.getpid())})
        )
    third = run / "0123" / "e00000003-a"
    third.mkdir()
    (third / "status.json").write_bytes(b'{"run": "plates"}')
    (third / "supervisor.json").write_bytes(body)
    found = list(here.living(run))
    assert [each.rank.epoch for each in found] == [2]
    assert overview.of_here(found[0], "the store is away").state == "RUNNING"


def test_a_journal_whose_fields_are_of_other_types_is_read_as_far_as_it_can_be(said, left):
    rank = left.session(1)
    left.trained(rank, 40)
    head = json.dumps(
        {
            "is": "RunStatus",
            "status": {"step": "x", "badput": 5, "durable": 30, "updated": {"mono_s": "a", "wall_s": 1}},
        }
    )
    lines = [head, json.dumps({"at": {"mono_s": None, "wall_s": "x"}, "is": "Started"})]
    left.store.create(f"{left.run.session(rank)}/journal-000002.jsonl", "\n".join(lines).encode())
    assert said("list")[0] == 0
    assert said("status", "--json")[0] == 0


def test_a_finished_run_with_nothing_safe_has_nothing_to_export(said, left):
    rank = left.session(1)
    left.end(rank, "succeeded")
    code, words = said("status")
    assert code == 0
    assert "export" not in words
    assert "logs plates" in words


@pytest.mark.parametrize(
    ("end", "trained", "words"),
    [
        (("handed-over", 42), True, "WAITING FOR A MACHINE"),
        (("failed", 4), False, "COULD NOT START"),
        (("failed", 3), False, "COULD NOT START"),
        (("failed", 4), True, "FAILED"),
        (("controller-failed", 1), True, "FAILED (the supervisor)"),
        (("succeeded", 0), True, "SUCCEEDED"),
    ],
)
def test_a_run_that_is_over_is_called_by_plain_words(said, left, end, trained, words):
    rank = left.session(1)
    if trained:
        left.trained(rank, 40)
    left.end(rank, *end)
    assert said("status")[1].startswith(f"plates: {words} · ")
    assert f"plates  {words}  " in said("list")[1]
    assert "PENDING" not in said("status")[1] + said("list")[1]


def test_a_run_that_nobody_served_is_not_started(said, left):
    assert said("status")[1].startswith("plates: NOT STARTED · no machine has served it yet")


@pytest.mark.parametrize(("reason", "code"), [("stopped", 130), ("failed", 1), ("handed-over", 42)])
def test_a_run_that_is_over_with_nothing_safe_says_where_the_next_start_begins(said, left, reason, code):
    left.end(left.session(1), reason, code)
    assert "\n  nothing safe: the next start begins at step 0\n" in said("status")[1]
