"""How a session ends: with its save, its proof, its record, and once."""

from __future__ import annotations

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.deadline import Lifetime
from supervisor.core.liveness import Policy
from supervisor.core.machine import run_state
from supervisor.core.messages import Save, Staged, Stop
from supervisor.core.session import FINAL, Config, Phase, SaveEvery
from tests.unit.core.driven import MINE
from tests.unit.core.told import DONE, HERE, Told, running

STAGED = ev.TrainerSaid(Staged(9, "/s/step-9", 1, "stop", 0.1, 0.1))
DURABLE = ev.Durable("/s/step-9", CheckpointId(3, 9, "mine", 1), 1, 0.5, "fsync")
KILL = [do.EndTrainer("kill")]


def ended(told: Told) -> tuple[Phase, int]:
    return told.session.phase, told.session.ending.exit_code


def test_a_finished_script_waits_for_its_last_checkpoint_to_be_proved():
    told = running()(STAGED, *DONE)
    assert told.session.phase is Phase.DRAINING
    assert told(DURABLE).asked(do.WriteEnd) == [do.WriteEnd("succeeded", 0, told.session.ending.words, 9)]
    assert ended(told(ev.EndWritten())) == (Phase.SUCCEEDED, 0)


def test_a_finished_script_whose_end_cannot_be_proved_is_no_success():
    told = running()(STAGED, *DONE).until(do.WriteEnd)
    assert told.asked(do.WriteEnd)[0].reason == "unproved"
    assert "/s/step-9" in told.session.ending.words
    assert ended(told(ev.EndWritten("EIO"))) == (Phase.FAILED, 1)


def test_a_hard_deadline_saves_waits_for_proof_and_hands_over():
    told = running(Config(lifetime=Lifetime(60.0, hard=True), save_every=SaveEvery("steps", 5))).until(do.Tell)
    assert isinstance(told.asked(do.Tell)[0].message, Stop)
    assert 1050 < told.now.mono_s < 1060
    assert not told(STAGED, *DONE).asked(do.WriteEnd)
    assert told(DURABLE).asked(do.WriteEnd)[0].exit_code == 42
    assert ended(told(ev.EndWritten())) == (Phase.HANDED_OVER, 42)
    assert run_state(told.session) == "PENDING"


def test_a_hard_deadline_with_a_store_that_hangs_ends_in_time_all_the_same():
    told = running(Config(lifetime=Lifetime(60.0, hard=True), save_every=SaveEvery("steps", 5))).until(do.Tell)
    told(STAGED, *DONE).until(do.WriteEnd)
    assert told.now.mono_s <= 1060
    while told.session.phase not in FINAL:
        told.wake()
    assert told.now.mono_s <= 1060 + 31


def test_a_soft_deadline_saves_and_goes_on():
    told = running(Config(lifetime=Lifetime(60.0, hard=False), save_every=SaveEvery("steps", 5))).until(do.Tell)
    assert isinstance(told.asked(do.Tell)[0].message, Save)
    assert told(ev.Woke(), after_s=20.0).session.phase is Phase.RUNNING


def test_ctrl_c_saves_first_and_twice_ends_at_once():
    told = running()(ev.Signalled("SIGINT"))
    assert told.asked(do.Tell)[0].message.save
    assert run_state(told.session) == "CANCELLING"
    assert told(ev.Signalled("SIGINT")).asked(do.EndTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.EndWritten())) == (Phase.CANCELLED, 130)


def test_sigterm_ends_with_143_and_what_was_saved_is_proved_first():
    told = running()(ev.Signalled("SIGTERM"), STAGED, ev.TrainerExited(0))
    assert not told.asked(do.WriteEnd)
    assert ended(told(DURABLE, ev.EndWritten())) == (Phase.CANCELLED, 143)


def test_a_closed_terminal_saves_and_goes_on():
    told = running()(ev.Signalled("SIGHUP"))
    assert isinstance(told.asked(do.Tell)[0].message, Save)
    assert told.session.phase is Phase.RUNNING


def test_a_request_to_stop_now_overrides_one_to_save_first():
    told = running()(ev.FenceSeen(HERE, "save"))
    assert told.asked(do.Tell)
    assert not told(ev.FenceSeen(HERE, "save")).asked(do.Tell)
    assert told(ev.FenceSeen(HERE, "now")).asked(do.EndTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.EndWritten())) == (Phase.CANCELLED, 143)


def test_a_trainer_that_does_not_stop_is_asked_then_killed():
    told = running(Config(save_every=SaveEvery("steps", 5)))(ev.Signalled("SIGINT"))
    stopped_s = told.now.mono_s
    assert told.until(do.EndTrainer).asked(do.EndTrainer) == [do.EndTrainer("term")]
    assert told.now.mono_s == stopped_s + 30
    assert told.until(do.EndTrainer).asked(do.EndTrainer) == KILL
    assert told.now.mono_s == stopped_s + 40


def test_a_notice_of_the_platform_saves_within_what_is_left_and_hands_over():
    told = running()(ev.Notice(25.0, "spot machine"))
    assert told.asked(do.Tell)[0].message.grace_s <= 25
    assert ended(told(STAGED, ev.TrainerExited(0), DURABLE, ev.EndWritten())) == (Phase.HANDED_OVER, 42)


def test_a_short_notice_leaves_the_upload_its_measured_time():
    slow = ev.Durable("/s/step-9", DURABLE.id, 9, 4.0, "fsync")
    told = running()(STAGED, slow, ev.Notice(30.0, "spot machine"))
    assert told.asked(do.Tell)[0].message.grace_s == 30.0 - 2 * 4.0 - 2.0


def test_a_notice_that_is_not_certain_saves_and_goes_on():
    told = running()(ev.Notice(120.0, "likely to be taken", certain=False))
    assert told.asked(do.Tell) == [do.Tell(Save("notice"))]
    assert told.session.phase is Phase.RUNNING
    assert "going on" in told.asked(do.Say)[0].hint


def test_a_known_end_is_believed_over_a_notice_of_more():
    told = running(Config(lifetime=Lifetime(700.0, hard=True)))
    told(ev.Notice(9000.0, "SIGUSR1 from Slurm job 7"))
    left_s = 700.0 - (told.now.mono_s - told.session.started_s)
    assert told.session.timers.give_up_waiting == pytest.approx(told.now.mono_s + left_s)


def test_a_stop_before_the_claim_ends_at_once_and_records_nothing():
    told = Told()(ev.Started(), ev.Signalled("SIGINT"))
    assert not told.asked(do.WriteEnd)
    assert ended(told) == (Phase.CANCELLED, 130)


def test_a_trainer_that_starts_while_the_session_ends_is_killed():
    told = Told()(ev.Started(), ev.Looked(()), ev.ClaimWritten(MINE)).wake()
    told(ev.Looked(HERE), ev.EnvironmentReady(1.0), ev.HistoryRead(), ev.CheckpointReady("", None))
    assert told.asked(do.Launch)
    assert told(ev.Signalled("SIGTERM"), ev.Launched(7)).asked(do.EndTrainer) == KILL


def test_a_defect_ends_the_session_in_a_named_state():
    told = running()(ev.ControllerFailed("Traceback"))
    assert told.asked(do.EndTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.EndWritten())) == (Phase.FAILED, 1)
    assert run_state(told.session) == "FAILED_CONTROLLER"


def test_a_defect_while_the_end_is_written_does_not_write_it_for_ever():
    told = running()(*DONE)
    assert told.asked(do.WriteEnd)
    assert not told(ev.ControllerFailed("defect")).asked(do.WriteEnd)
    while told.session.phase not in FINAL:
        told.wake()
    assert run_state(told.session) == "FAILED_CONTROLLER"


def test_an_end_that_cannot_be_written_is_an_end_all_the_same():
    told = running()(*DONE)
    while told.session.phase not in FINAL:
        told.wake()
    assert told.session.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    "asked",
    [ev.Signalled("SIGTERM"), ev.Notice(30.0, "a spot machine"), ev.Notice(25.0, "SIGTERM from Slurm")],
    ids=str,
)
def test_a_stuck_trainer_leaves_time_for_the_end_record_within_what_a_platform_gives(asked):
    """Kubernetes and a reclaimed machine of Google give 30 seconds: a trainer that hears nothing is killed before."""
    told = running()(asked)
    within_s = getattr(asked, "in_s", 30.0)
    while not told.asked(do.EndTrainer):
        told.wake()
    assert told.asked(do.EndTrainer) == [do.EndTrainer("term")]
    while told.asked(do.EndTrainer) != [do.EndTrainer("kill")]:
        told.wake()
    assert told.now.mono_s <= 1000.0 + within_s - 1.5
    assert told(ev.TrainerExited(-9)).asked(do.WriteEnd)


def test_a_trainer_that_needs_longer_for_its_save_is_given_it_after_ctrl_c_and_sigterm():
    slow = ev.TrainerSaid(Staged(9, "/s/step-9", 1, "auto", 2.0, 8.0))
    for name in ("SIGINT", "SIGTERM"):
        told = running()(slow, ev.Signalled(name))
        assert told.asked(do.Tell)[-1].message.grace_s >= 50.0


def test_a_hang_that_is_named_in_seconds_is_ended_within_as_many():
    """A stopped process does not hear the signal for its stacks, so it is killed."""
    told = running(Config(liveness=Policy(fixed_s=3.0)))
    while told.asked(do.EndTrainer) != [do.EndTrainer("stacks")]:
        told.wake()
    while told.asked(do.EndTrainer) != KILL:
        told.wake()
    assert told.now.mono_s <= 1000.0 + 7.0
