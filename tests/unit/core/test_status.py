"""One status, folded from records: never raises, unknown is not zero, and a journal replays to what was published."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.codec import from_line, to_line
from supervisor.core.instant import Instant
from supervisor.core.messages import Beat, Hello, Staged, Trouble
from supervisor.core.status import BADPUT, RunStatus, fold, goodput, to_json
from supervisor.engine.journal import Journal, parse_piece, replay
from tests.unit.core.draws import COMMANDS, CONFIGS, EVENTS
from tests.unit.core.driven import life

RECORDS = st.lists(st.tuples(st.floats(0, 100), st.one_of(EVENTS, COMMANDS)), max_size=30)
JOURNALS = settings(max_examples=60, deadline=None)


def folded(records, first=None):
    status, now = first or RunStatus(), Instant(1000.0, 5.0)
    for wait_s, record in records:
        now = now.later(wait_s)
        status = fold(status, record, now)
    return status, now


@JOURNALS
@given(RECORDS)
def test_folding_any_prefix_never_raises_and_gives_a_status_that_can_be_printed(records):
    for cut in range(len(records) + 1):
        status, now = folded(records[:cut])
        for at in (now, None):
            seen = to_json(status, at)
            assert json.dumps(seen)
            assert seen["schema"] == 1
            assert seen["goodput"] is None or 0 <= seen["goodput"] <= 1
            assert set(seen["badput"]) == set(BADPUT)


@JOURNALS
@given(st.integers(0, 2**32), CONFIGS)
def test_replaying_a_journal_gives_the_published_status(seed, config):
    journal, pieces = Journal(None, RunStatus(run="r")), {}
    for number, moment in enumerate(life(seed, config, moments=150)):
        for record in (moment.event, *moment.commands):
            journal.record(moment.now, record)
        if number % 40 == 39:
            taken = journal.take()
            if number % 80 == 39:
                journal.put_back(taken)
            else:
                pieces.update(taken)
    pieces.update(journal.take())
    again = RunStatus(run="r")
    for name in sorted(pieces):
        again = replay(again, parse_piece(pieces[name])[1])
    assert _shown(again) == _shown(journal.status)
    assert _shown(replay(*parse_piece(pieces[max(pieces)]))) == _shown(journal.status)


def _shown(status):
    seen = to_json(status, None)
    return {
        key: seen[key]
        for key in ("state", "epoch", "attempt", "step", "checkpoints", "recoveries", "metrics", "exit_code")
    }


@JOURNALS
@given(RECORDS)
def test_records_that_went_through_a_journal_fold_alike(records):
    direct, now = folded(records)
    carried, _ = folded(
        [(wait_s, from_line(to_line({"mono_s": 0, "wall_s": 0}, record))[1]) for wait_s, record in records]
    )
    assert repr(to_json(direct, now)) == repr(to_json(carried, now))


def test_unknown_is_not_zero():
    seen = to_json(RunStatus(), None)
    unknown = (
        "step",
        "total_steps",
        "goodput",
        "eta_s",
        "steps_per_s",
        "durable_age_s",
        "deadline_in_s",
        "epoch",
        "exit_code",
    )
    assert all(seen[key] is None for key in unknown)
    assert seen["checkpoints"] == {"staged": None, "submitted": None, "durable": None}


@pytest.mark.parametrize("asked", [True, False])
def test_no_interval_between_saves_is_promised_of_a_script_that_saves_by_itself_nor_after_its_end(asked):
    announced = do.Announce("RUNNING", "RUNNING", save_every_s=36.0, expected_loss_s=18.0)
    beat = ev.TrainerSaid(Beat(40, "step", None, None, 0.1, asked=asked))
    status, now = folded([(0, beat), (1, ev.TrainerExited(0)), (1, announced)])
    seen = to_json(status, now)
    assert (seen["save_every_s"], seen["expected_loss_s"]) == ((36.0, 18.0) if asked else (None, None))


def test_only_a_durable_checkpoint_is_shown_as_durable():
    id_ = CheckpointId(1, 40, "a", 1)
    staged = ev.TrainerSaid(Staged(40, "/s", 9, "due", 0.1, 0.1))
    status, _ = folded([(1, staged), (1, ev.Submitted("/s", id_, 9))])
    assert to_json(status, None)["checkpoints"] == {"staged": 40, "submitted": 40, "durable": None}
    status, now = folded([(1, ev.Durable("/s", id_, 9, 2.0, "fsync"))], status)
    assert status.durable == 40
    assert status.unproved_since is None
    assert to_json(status, now.later(7))["durable_age_s"] == 7


def test_of_a_script_that_tells_no_steps_its_snapshots_say_how_far_it_is():
    def lived(section, step_s):
        beat = Beat(34, section, None, None, step_s)
        said = (beat, Staged(45, "/s", 9, "due", 0.1, 0.1), beat)
        return folded([(0, ev.Launched(7)), *((1, ev.TrainerSaid(each)) for each in said)])[0].step

    assert lived("start", None) == lived("save", None) == 45
    assert lived("step", 0.1) == 34


def test_time_is_good_only_if_its_progress_was_kept():
    beats = [
        Beat(10, "step", 100, None, 2.0, {"step": 20.0}),
        Beat(20, "step", 100, None, 2.0, {"step": 40.0, "save": 10.0}),
    ]
    status, _ = folded([(20, ev.TrainerSaid(beat)) for beat in beats])
    assert goodput(status) == 0.8
    status, _ = folded([(1, ev.CheckpointReady("/r", CheckpointId(1, 10, "a", 1)))], status)
    assert status.badput["wasted progress"] == 20.0
    assert goodput(status) == 0.4


def test_the_time_between_two_machines_is_waiting():
    status, now = folded([(0, ev.Started()), (100, ev.Woke())])
    later = fold(status, ev.Started(), Instant(3.0, now.wall_s + 50.0))
    assert later.badput["waiting for a machine"] == 50.0


def test_time_left_and_rate():
    status, now = folded([(1, ev.TrainerSaid(Beat(25, "step", 100, None, 0.5)))])
    seen = to_json(status, now)
    assert (seen["steps_per_s"], seen["eta_s"]) == (2.0, 37.5)
    assert to_json(status, None)["eta_s"] is None


def test_the_machines_device_stands_until_the_trainer_tells_its_own():
    now = Instant(1.0, 1.0)
    seen = fold(RunStatus(), ev.MachineSeen("1 x Tesla T4, 15 GB", "a Colab machine"), now)
    assert seen.device == "1 x Tesla T4, 15 GB"
    told = fold(seen, ev.TrainerSaid(Hello(7, 1, attached=True, device="cuda:0 Tesla T4")), now)
    assert told.device == "cuda:0 Tesla T4"
    assert fold(told, ev.MachineSeen("1 x Tesla T4, 15 GB", ""), now).device == "cuda:0 Tesla T4"
    assert fold(told, ev.Started(), now).device is None  # the next machine may have another, or none
    assert fold(RunStatus(), ev.MachineSeen("", "this computer"), now).device is None


def said(message):
    return 1.0, ev.TrainerSaid(message)


def durable(step):
    return 1.0, ev.Durable("", CheckpointId(1, step, "a", 1), 1, 0.1, "fsync")


def shown(records, first=None):
    return folded(records, first)[0]


def test_while_the_loss_is_no_number_the_last_checkpoint_before_is_told():
    bad = said(Trouble(25, "loss", "nan", "nan", 24))
    seen = shown([durable(10), durable(20), bad, durable(30), said(Beat(31, "step", metrics={"loss": "NaN"}))])
    assert to_json(seen, None)["nan"] == {"since": 25, "fine": 24, "names": ["loss"], "last_good": 20}
    assert to_json(shown([said(Beat(32, "step", metrics={"other": 1.0}))], seen), None)["nan"]["since"] == 25
    assert to_json(shown([said(Beat(32, "step", metrics={"loss": 1.0}))], seen), None)["nan"] is None


def test_after_going_on_from_before_it_the_loss_is_a_number_again():
    bad = said(Trouble(25, "loss", "nan", "nan", 24))
    back = (1.0, ev.CheckpointReady("/x", CheckpointId(1, 20, "a", 1)))
    assert to_json(shown([durable(20), durable(30), bad, back]), None)["nan"] is None
    again = said(Trouble(35, "loss", "nan", "nan", 34))
    told = to_json(shown([durable(20), durable(30), bad, back, again]), None)["nan"]
    assert told["last_good"] == 20, "30 was gone back from"
    forward = (1.0, ev.CheckpointReady("/x", CheckpointId(1, 30, "a", 1)))
    assert to_json(shown([durable(20), durable(30), bad, forward]), None)["nan"]["last_good"] == 20
