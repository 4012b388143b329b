"""From the first look at the store to a running trainer."""

from __future__ import annotations

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank, Sighting
from supervisor.core.machine import run_state
from supervisor.core.recovery import Policy
from supervisor.core.session import Config, Phase
from tests.unit.core.driven import MINE
from tests.unit.core.told import HERE, Told, claimed, running

OLD = CheckpointId(2, 40, "old", 1)
RIVAL = Sighting(Rank(2, "old"), 3)


def test_a_session_starts_in_order():
    told = Told()(ev.Started())
    assert told.asked(do.Look)
    assert told(ev.Looked(("e00000002-old",))).asked(do.WriteClaim) == [do.WriteClaim(3)]
    assert told(ev.ClaimWritten(MINE)).asked(do.PrepareEnvironment)
    assert told.wake().asked(do.Look)
    assert told(ev.Looked(HERE)).asked(do.ReadHistory)
    assert told(ev.HistoryRead()).asked(do.Restore) == [do.Restore()]
    assert not told(ev.CheckpointReady("", None)).asked(do.Launch)
    assert told(ev.EnvironmentReady(1.0)).asked(do.Launch) == [do.Launch(1, "")]
    assert run_state(told.session) == "STARTING"
    assert run_state(told(ev.Launched(1)).session) == "RUNNING"


def _begins(told):
    return [said.words for said in told.asked(do.Say) if said.words.startswith("beginning")]


def test_earlier_work_of_which_no_checkpoint_is_there_is_not_called_absent():
    first = claimed()(ev.CheckpointReady("", None))
    assert _begins(first) == ["beginning at step 0: there is no earlier work"]
    again = running()(ev.TrainerExited(-9)).until(do.Restore)(ev.CheckpointReady("", None))
    assert _begins(again) == ["beginning at step 0: no checkpoint of the earlier work is there"]
    other = Told()(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    other(ev.Looked(HERE), ev.HistoryRead(words="The last machine was killed."))(ev.CheckpointReady("", None))
    assert _begins(other) == ["beginning at step 0: no checkpoint of the earlier work is there"]


def test_other_machines_have_time_to_show_before_the_second_look():
    told = Told(Config(settle_s=60.0))(ev.Started(), ev.Looked(()))(ev.ClaimWritten(MINE))
    claimed_s = told.now.mono_s
    while not told.asked(do.Look):
        told.wake()
    assert told.now.mono_s == claimed_s + 60


def test_who_is_outranked_after_its_claim_ends_before_it_began():
    told = Told()(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    told(ev.Looked((*HERE, "e00000003-zzzz")))
    assert told.asked(do.WriteEnd)[0].exit_code == 75
    assert told(ev.EndWritten()).session.phase is Phase.FENCED


def test_a_live_rival_is_waited_for_until_it_is_silent():
    told = Told(Config(silence_s=10.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL))
    assert told.asked(do.Say)
    for _ in range(5):
        assert not told.asked(do.WriteClaim)
        assert told.wake().asked(do.Look)
        told(ev.Looked((str(RIVAL.rank),), RIVAL))
    assert told.asked(do.WriteClaim)


def test_a_rival_is_asked_for_a_sign_and_one_that_gives_none_is_gone():
    told = Told(Config(answer_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL))
    assert told.asked(do.Knock) == [do.Knock(RIVAL.rank.epoch, RIVAL.rank.writer)]
    asked_s = told(ev.Knocked()).now.mono_s
    while not told.asked(do.WriteClaim):
        told.wake()
        told(ev.Looked((str(RIVAL.rank),), RIVAL))
        assert not told.asked(do.Knock)
    assert 20 <= told.now.mono_s - asked_s < 25


def test_a_rival_that_answers_is_waited_for_and_asked_again_only_after_a_long_silence():
    told = Told(Config(answer_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL), ev.Knocked())
    answered = Sighting(RIVAL.rank, RIVAL.signs + 1)
    answered_s = told(ev.Looked((str(RIVAL.rank),), answered)).now.mono_s
    while not told.asked(do.Knock):
        assert not told.asked(do.WriteClaim)
        told.wake()
        told(ev.Looked((str(RIVAL.rank),), answered))
    assert told.now.mono_s - answered_s >= 90


def test_a_name_that_comes_after_the_question_is_said_because_the_silence_counts_from_then():
    """A drive may show the names of a dead machine late: what was said of the time to wait holds no more."""
    told = Told(Config(answer_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL), ev.Knocked())
    late = Sighting(RIVAL.rank, RIVAL.signs + 1)
    [said] = told(ev.Looked((str(RIVAL.rank),), late)).asked(do.Say)
    assert said.words == "session 2 has shown a new name in the store: it lives, or the name came late"
    assert "asked again after 90 s of silence" in said.hint
    assert not told(ev.Looked((str(RIVAL.rank),), late)).asked(do.Say)


@pytest.mark.parametrize("settle_s", [0.0, 0.3, 59.0])
def test_a_settle_time_under_what_the_drive_is_known_for_is_said_once_with_the_safe_one(settle_s):
    told = Told(Config(settle_s=settle_s, safe_settle_s=60.0, place="Drive"))(ev.Started(), ev.Looked((), None))
    said = [each for each in told.asked(do.Say) if each.level == "warning"]
    assert len(said) == 1
    assert "by which Drive may show files late: this start may miss newer checkpoints" in said[0].words
    assert "--settle 60s" in said[0].hint


@pytest.mark.parametrize(("settle_s", "safe_settle_s"), [(60.0, 60.0), (90.0, 60.0), (0.0, 0.0)])
def test_a_settle_time_that_is_enough_is_not_warned_of(settle_s, safe_settle_s):
    told = Told(Config(settle_s=settle_s, safe_settle_s=safe_settle_s))(ev.Started(), ev.Looked((), None))
    assert not [each for each in told.asked(do.Say) if each.level == "warning"]


@pytest.mark.parametrize("asked_and_answered", [(1, 0), (2, 1)], ids=["no answer", "the answer to an earlier start"])
def test_late_names_of_a_dead_machine_do_not_begin_the_silence_again(asked_and_answered):
    """A drive shows a name up to its settle time late: until then only an answer says that its writer was asked."""
    asked, answered = asked_and_answered
    told = Told(Config(answer_s=50.0, settle_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL))
    asked_s = told(ev.Knocked()).now.mono_s
    signs = RIVAL.signs
    while not told.asked(do.WriteClaim):
        told.wake()
        signs += told.now.mono_s - asked_s < 20
        late = Sighting(RIVAL.rank, signs, asked=asked, answered=answered)
        told(ev.Looked((str(RIVAL.rank),), late))
        assert not told.asked(do.Knock), "it is asked once"
    assert signs > RIVAL.signs + 2
    assert 50 <= told.now.mono_s - asked_s < 55


def test_a_name_that_comes_later_than_any_name_can_be_is_a_sign_of_life():
    told = Told(Config(answer_s=50.0, settle_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL), ev.Knocked())
    asked_s = told.now.mono_s
    while told.now.mono_s - asked_s <= 20:
        told.wake()
        told(ev.Looked((str(RIVAL.rank),), RIVAL))
    [said] = told(ev.Looked((str(RIVAL.rank),), Sighting(RIVAL.rank, RIVAL.signs + 1))).asked(do.Say)
    assert "has shown a new name" in said.words


def test_an_answer_counts_at_once_also_where_names_may_be_late():
    told = Told(Config(answer_s=50.0, settle_s=20.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL), ev.Knocked())
    answered = Sighting(RIVAL.rank, RIVAL.signs + 1, asked=2, answered=2)
    [said] = told(ev.Looked((str(RIVAL.rank),), answered)).asked(do.Say)
    assert "has shown a new name" in said.words


def test_a_question_that_cannot_be_put_leaves_the_long_silence():
    told = Told(Config(answer_s=20.0, silence_s=60.0))(ev.Started(), ev.Looked((str(RIVAL.rank),), RIVAL))
    asked_s = told(ev.Knocked("Input/output error")).now.mono_s
    while not told.asked(do.WriteClaim):
        told.wake()
        told(ev.Looked((str(RIVAL.rank),), RIVAL))
    assert told.now.mono_s - asked_s >= 60


def test_a_session_answers_each_question_once():
    told = running()
    assert told(ev.FenceSeen(HERE, knocks=1)).asked(do.Answer) == [do.Answer(1)]
    assert not told(ev.FenceSeen(HERE, knocks=1)).asked(do.Answer)
    assert told(ev.FenceSeen(HERE, knocks=2)).asked(do.Answer) == [do.Answer(2)]


def test_a_rival_that_gives_signs_is_waited_for_as_long_as_it_does():
    told = Told(Config(silence_s=10.0))(ev.Started())
    for signs in range(30):
        told(ev.Looked((str(RIVAL.rank),), Sighting(RIVAL.rank, signs)))
        assert not told.asked(do.WriteClaim)
        told.wake()


@pytest.mark.parametrize(
    ("rival", "config"),
    [
        (Sighting(RIVAL.rank, 3, alive=False), Config()),
        (Sighting(RIVAL.rank, 3, end="stopped"), Config()),
        (Sighting(RIVAL.rank, 3, alive=True), Config(takeover=True)),
    ],
)
def test_a_rival_that_is_dead_or_ended_or_to_be_taken_over_is_not_waited_for(rival, config):
    assert Told(config)(ev.Started(), ev.Looked((str(rival.rank),), rival)).asked(do.WriteClaim)


def test_a_finished_run_is_not_run_again_unless_its_arguments_differ():
    done = Sighting(Rank(2, "old"), 3, end="succeeded")
    told = Told()(ev.Started(), ev.Looked((str(done.rank),), done))
    assert (told.session.phase, told.session.ending.exit_code) == (Phase.SUCCEEDED, 0)
    assert Told()(ev.Started(), ev.Looked((str(done.rank),), done, same_job=False)).asked(do.WriteClaim)
    assert Told(Config(resume="never"))(ev.Started(), ev.Looked((str(done.rank),), done)).asked(do.WriteClaim)


def test_what_a_dead_session_of_this_machine_staged_is_published_and_kept_for_the_trainer():
    told = claimed()(ev.CheckpointReady("/old/step-40", OLD, durable=False, adopted=True))
    assert told.asked(do.Publish) == [do.Publish("/old/step-40", 40)]
    told(ev.Launched(7), ev.Durable("/old/step-40", CheckpointId(3, 40, "mine", 1), 1, 0.5, "fsync"))
    assert not told.asked(do.Discard)
    assert told.session.saves.durable.step == 40


def test_what_a_frozen_session_adopts_waits_for_a_look_at_the_fence():
    told = claimed()(ev.Woke(), after_s=5000.0)
    assert not told(ev.CheckpointReady("/old/step-40", OLD, durable=False, adopted=True)).asked(do.Publish)
    assert told(ev.FenceSeen(HERE)).asked(do.Publish)


def test_a_user_who_must_resume_is_not_given_step_0():
    told = claimed(Config(resume="must"))(ev.CheckpointReady("", None))
    assert told.asked(do.WriteEnd)[0].exit_code == 4


def test_to_begin_anew_is_passed_on():
    told = Told(Config(resume="never"))(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    assert told(ev.Looked(HERE), ev.HistoryRead()).asked(do.Restore) == [do.Restore(afresh=True)]


def test_a_budget_of_lost_machines_that_is_used_up_ends_the_run():
    told = Told(Config(restarts=Policy(max_preemptions=2)))(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    assert told(ev.Looked(HERE), ev.HistoryRead(lost=5, lost_in_a_row=3)).asked(do.WriteEnd)[0].exit_code == 93


def test_the_user_reads_from_where_the_run_goes_on_and_what_was_lost():
    told = Told()(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    told(ev.Looked(HERE), ev.HistoryRead(last_step=60, step_s=2.0, words="The last machine was lost."))
    assert [each.words for each in told.asked(do.Say)] == ["The last machine was lost."]
    [said] = told(ev.CheckpointReady("/r", OLD)).asked(do.Say)
    assert "step 40" in said.words
    assert "20 steps" in said.words
    assert "40 s of work" in said.words


@pytest.mark.parametrize("code", [3, 4])
def test_what_only_a_person_can_mend_is_said_in_two_lines(code):
    told = Told()(ev.Started(), ev.SetupFailed("the store cannot be used", "mount it", code))
    assert told.asked(do.Say) == [do.Say("error", "the store cannot be used", "mount it")]
    assert (told.session.phase, told.session.ending.exit_code) == (Phase.FAILED, code)
