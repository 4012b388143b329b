"""Back before a trouble: what is withdrawn, what is passed over, how often; and the session that goes back, event by event."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import rollback
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank
from supervisor.core.machine import run_state
from supervisor.core.messages import Staged, Trouble
from supervisor.core.rollback import TRIES_MAX, Rollback
from supervisor.core.session import FINAL, Config, Phase
from tests.unit.core.draws import CONFIGS, IDS, RANKS, ROLLBACKS
from tests.unit.core.driven import MINE, life
from tests.unit.core.told import HERE, claimed, running

LAWS = settings(max_examples=60, deadline=None)
BACK = Config(on_nan="rollback", nan_rate=0.5)
NAN = Trouble(25, "loss", "nan", "nan", 24)
OLD = Rank(2, "old")


def decided(trouble, *, rolled=(), began=20, passed=None):
    return rollback.decided(trouble, mine=MINE, rolled=rolled, began=began, passed=passed)


@given(ROLLBACKS)
def test_all_that_others_need_stands_in_the_name_of_the_record(each):
    assert rollback.parse(each.rank, each.name) == each
    assert rollback.parse(each.rank, each.name.replace(".json", " (1).json")) == each
    assert rollback.parse(each.rank, "manifest-000001-0123456789abcdef.json") is None


@given(st.lists(ROLLBACKS, max_size=4), IDS, RANKS)
def test_a_later_session_is_never_withdrawn_by_an_earlier_one(rollbacks, id_, rank):
    newest = max((each.rank for each in rollbacks), default=rank)
    assert not rollback.withdrawn(CheckpointId(newest.epoch + 1, id_.step, "a", 1), rollbacks)
    assert all(not rollback.withdrawn(CheckpointId(1, 0, "a", 1), [each]) for each in rollbacks)


def test_the_first_try_leaves_out_the_bad_step_and_the_one_whose_update_may_have_been_bad():
    assert decided(NAN) == Rollback(MINE, limit=24, trouble=25, skip_from=24, skip_end=26, tries=1)
    assert decided(Trouble(25, "loss", "nan", "nan")).limit == 24


def test_where_the_loss_is_logged_now_and_then_all_since_the_last_good_one_is_suspect():
    back = decided(Trouble(30, "loss", "nan", "nan", 20))
    assert (back.limit, back.skip_from, back.skip_end) == (20, 20, 31)


def test_the_second_try_goes_one_checkpoint_further_and_leaves_out_all_up_to_the_trouble():
    first = Rollback(OLD, 24, 25, 24, 26, tries=1)
    second = decided(Trouble(27, "loss", "nan", "nan", 26), rolled=[first])
    assert second == Rollback(MINE, limit=19, trouble=27, skip_from=0, skip_end=28, tries=2)
    third = decided(Trouble(29, "loss", "nan", "nan", 28), rolled=[first, second], began=10)
    assert third.tries > TRIES_MAX


def test_who_starts_again_after_a_stop_gets_the_same_checkpoint_once_more_and_then_an_older_one():
    tried = [Rollback(OLD, 24, 25, 24, 26, tries=1), Rollback(OLD, 19, 27, 0, 28, tries=2)]
    again = Trouble(28, "loss", "nan", "nan", 9)
    beyond = decided(again, rolled=tried, began=10)
    stop = rollback.stopped(beyond, again, rolled=tried, began=10)
    assert (beyond.tries, stop.tries, stop.limit) == (3, 0, 27)
    assert rollback.stopped(beyond, again, rolled=[*tried, stop], began=10).limit == 9


def test_a_stop_withdraws_all_since_the_last_step_that_was_fine():
    seen = Trouble(30, "loss", "nan", "nan", 20)
    assert rollback.stopped(decided(seen), seen, rolled=[], began=10).limit == 20
    assert rollback.stopped(decided(seen), seen, rolled=[], began=21).limit == 29


def test_with_a_safe_checkpoint_between_them_two_troubles_are_two():
    first = Rollback(OLD, 24, 25, 24, 26, tries=1)
    assert decided(Trouble(60, "loss", "nan", "nan", 59), rolled=[first], passed=40).tries == 1
    assert decided(Trouble(60, "loss", "nan", "nan", 59), rolled=[first], began=30).tries == 1
    assert decided(Trouble(30, "loss", "nan", "nan", 29), rolled=[first], passed=30).tries == 2


def test_what_was_before_a_new_beginning_holds_no_more():
    first, stopped = Rollback(OLD, 24, 25, 24, 26, tries=1), Rollback(Rank(5, "x"), 9, 10)
    assert rollback.applying([stopped, first], (), 6) == (first, stopped)
    assert rollback.applying([stopped, first], {4}, 6) == (stopped,)
    assert rollback.applying([stopped, first], {4}, 3) == (first, stopped)
    assert rollback.applying([stopped, first], {4}, None) == (stopped,)


@given(st.lists(ROLLBACKS, max_size=3))
def test_the_trainer_reads_what_the_supervisor_wrote(rolled):
    read = rollback.of_words(rollback.as_words(rolled))
    goes_back = [each for each in rolled if each.tries]
    assert read == [(str(each.rank), range(each.skip_from, each.skip_end), each.rate) for each in goes_back]


# --- the session ------------------------------------------------------------------------------------------------------


def reasons(told):
    return [(each.reason, each.exit_code) for each in told.asked(do.WriteEnd)]


def test_a_rollback_ends_the_trainer_at_once_and_the_session_when_its_record_is_written():
    told = running(BACK)(ev.TrainerSaid(NAN))
    order = told.asked(do.WriteRollback)[0].rollback
    assert told.asked(do.EndTrainer) == [do.EndTrainer("kill")]
    assert (order.limit, order.tries, order.rate) == (24, 1, 0.5)
    assert not told(ev.TrainerExited(-9)).asked(do.WriteEnd)
    assert reasons(told(ev.RollbackWritten())) == [("rolled-back", 42)]
    assert told(ev.EndWritten()).session.phase is Phase.HANDED_OVER
    assert run_state(told.session) == "RECOVERING"


def test_a_rollback_that_cannot_be_recorded_ends_in_a_failure_with_two_lines():
    told = running(BACK)(ev.TrainerSaid(NAN), ev.TrainerExited(-9), ev.RollbackWritten("Input/output error"))
    told(ev.EndWritten())
    assert (told.session.phase, told.session.ending.exit_code) == (Phase.FAILED, 1)
    assert "Input/output error" in told.session.ending.words
    assert told.session.ending.hint


def test_a_store_that_never_answers_does_not_keep_a_rollback_for_ever():
    told = running(BACK)(ev.TrainerSaid(NAN), ev.TrainerExited(-9))
    for _ in range(500):
        if told.session.phase in FINAL:
            break
        told.wake()
    assert told.session.phase is Phase.FAILED


def test_stop_says_what_happened_and_withdraws_what_came_after_it():
    told = running(Config(on_nan="stop"))(ev.TrainerSaid(NAN))
    order = told.asked(do.WriteRollback)[0].rollback
    assert (order.limit, order.tries, order.skip_end) == (24, 0, 0)
    told(ev.TrainerExited(-9), ev.RollbackWritten())
    assert reasons(told) == [("trouble", 1)]
    assert told(ev.EndWritten()).session.phase is Phase.FAILED
    assert "loss is nan at step 25" in told.session.ending.words


def test_after_two_tries_it_stops_with_words():
    tried = tuple(Rollback(Rank(epoch, "old"), 24, 25, 24, 26, tries) for epoch, tries in ((1, 1), (2, 2)))
    told = claimed(BACK)(ev.CheckpointReady("/r", CheckpointId(1, 10, "old", 1), rolled=tried), ev.Launched(7))
    told(ev.TrainerSaid(NAN), ev.TrainerExited(-9), ev.RollbackWritten())
    assert reasons(told) == [("trouble", 1)]
    assert "tried 2 times" in told.session.ending.words


def test_to_ignore_a_trouble_only_puts_it_on_record():
    told = running()(ev.TrainerSaid(NAN))
    assert told.session.phase is Phase.RUNNING
    assert told.commands == [do.NoteNonfinite(24, 25, "loss is nan at step 25")]
    assert running(BACK)(ev.TrainerSaid(Trouble(25, "loss", "9", "spike", 24))).commands == []


def test_a_trouble_that_shows_in_the_last_save_is_on_record_though_the_session_was_told_to_stop():
    told = running(BACK)(ev.Signalled("SIGTERM"), ev.TrainerSaid(NAN))
    assert told.asked(do.WriteRollback)
    told(ev.TrainerExited(143), ev.RollbackWritten())
    assert reasons(told) == [("stopped", 143)]


@pytest.mark.parametrize("asked", [ev.Signalled("SIGINT"), ev.FenceSeen(HERE, "save")])
def test_a_person_who_stops_a_rollback_gets_no_new_session(asked):
    told = running(BACK)(ev.TrainerSaid(NAN), ev.TrainerExited(-9), ev.RollbackWritten(), asked, ev.EndWritten())
    assert told.session.phase is Phase.CANCELLED


def test_a_checkpoint_that_is_withdrawn_is_not_sent_any_more():
    staged = [ev.TrainerSaid(Staged(step, f"/s/step-{step}", 1, "due", 0.1, 0.1)) for step in (20, 25)]
    told = running(BACK)(*staged, ev.TrainerSaid(NAN))
    assert (told.session.saves.publishing, told.session.saves.waiting) == ("/s/step-20", "")
    durable = ev.Durable("/s/step-20", CheckpointId(3, 20, "mine", 1), 1, 0.5, "fsync")
    assert not told(durable).asked(do.Publish)
    assert not told.asked(do.Retain)


def test_nothing_is_removed_until_the_trouble_is_passed():
    first = Rollback(OLD, 24, 25, 24, 26, tries=1)
    told = claimed(BACK)(ev.CheckpointReady("/r", CheckpointId(2, 20, "old", 1), rolled=(first,)), ev.Launched(7))
    for step, removes in ((24, False), (30, True)):
        folder = f"/s/step-{step}"
        told(ev.TrainerSaid(Staged(step, folder, 1, "due", 0.1, 0.1)))
        told(ev.Durable(folder, CheckpointId(3, step, "mine", 1), 1, 0.5, "fsync"))
        assert bool(told.asked(do.Retain)) is removes
    assert told.session.passed == 30


@LAWS
@given(st.integers(0, 2**32), CONFIGS)
def test_one_record_at_most_and_nothing_is_launched_or_removed_after_it(seed, config):
    written, seen = [], False
    for moment in life(seed, config):
        for command in moment.commands:
            if isinstance(command, do.WriteRollback):
                assert "ignore" not in {config.on_nan} & {config.on_spike}
                assert command.rollback.tries <= TRIES_MAX
                written.append(command)
            elif written:
                assert not isinstance(command, do.Launch | do.Retain)
        seen = seen or (isinstance(moment.event, ev.RollbackWritten) and not moment.event.error)
        if moment.after.phase is Phase.HANDED_OVER and moment.after.ending.reason == rollback.ROLLED_BACK:
            assert seen, "it goes on although nobody else can know what is withdrawn"
    assert len(written) <= 1
