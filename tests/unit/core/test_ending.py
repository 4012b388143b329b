"""How a session ends: with its save, its proof, its record, and once."""

from __future__ import annotations

import pytest

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.policy.deadline import TimeLimit
from supervisor.core.policy.liveness import LivenessPolicy
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import FINAL, Config, Phase, SaveSchedule
from supervisor.core.session.state_machine import run_state
from supervisor.core.wire.messages import CheckpointStaged, SaveRequest, StopRequest
from tests.unit.core.driven import MINE
from tests.unit.core.told import DONE, HERE, Told, running

STAGED = ev.TrainerMessage(CheckpointStaged(9, "/s/step-9", 1, "stop", 0.1, 0.1))
DURABLE = ev.CheckpointDurable("/s/step-9", CheckpointId(3, 9, "mine", 1), 1, 0.5, "fsync")
KILL = [do.SignalTrainer("kill")]


def ended(told: Told) -> tuple[Phase, int]:
    return told.session.phase, told.session.ending.exit_code


def test_a_finished_script_waits_for_its_last_checkpoint_to_be_proved():
    told = running()(STAGED, *DONE)
    assert told.session.phase is Phase.DRAINING
    assert told(DURABLE).asked(do.RecordSessionEnd) == [
        do.RecordSessionEnd("succeeded", 0, told.session.ending.message, 9)
    ]
    assert ended(told(ev.SessionEndRecorded())) == (Phase.SUCCEEDED, 0)


def test_a_finished_script_whose_end_cannot_be_proved_is_no_success():
    told = running()(STAGED, *DONE).until(do.RecordSessionEnd)
    assert told.asked(do.RecordSessionEnd)[0].reason == "unproved"
    assert "/s/step-9" in told.session.ending.message
    assert ended(told(ev.SessionEndRecorded("EIO"))) == (Phase.FAILED, 1)


def test_a_hard_deadline_saves_waits_for_proof_and_hands_over():
    told = running(Config(time_limit=TimeLimit(60.0, hard=True), save_every=SaveSchedule("steps", 5))).until(
        do.SendToTrainer
    )
    assert isinstance(told.asked(do.SendToTrainer)[0].message, StopRequest)
    assert 1050 < told.now.mono_s < 1060
    assert not told(STAGED, *DONE).asked(do.RecordSessionEnd)
    assert told(DURABLE).asked(do.RecordSessionEnd)[0].exit_code == 42
    assert ended(told(ev.SessionEndRecorded())) == (Phase.HANDED_OVER, 42)
    assert run_state(told.session) == "PENDING"


def test_a_hard_deadline_with_a_store_that_hangs_ends_in_time_all_the_same():
    told = running(Config(time_limit=TimeLimit(60.0, hard=True), save_every=SaveSchedule("steps", 5))).until(
        do.SendToTrainer
    )
    told(STAGED, *DONE).until(do.RecordSessionEnd)
    assert told.now.mono_s <= 1060
    while told.session.phase not in FINAL:
        told.wake()
    assert told.now.mono_s <= 1060 + 31


def test_a_soft_deadline_saves_and_goes_on():
    told = running(Config(time_limit=TimeLimit(60.0, hard=False), save_every=SaveSchedule("steps", 5))).until(
        do.SendToTrainer
    )
    assert isinstance(told.asked(do.SendToTrainer)[0].message, SaveRequest)
    assert told(ev.TimerFired(), after_s=20.0).session.phase is Phase.RUNNING


def test_ctrl_c_saves_first_and_twice_ends_at_once():
    told = running()(ev.SignalReceived("SIGINT"))
    assert told.asked(do.SendToTrainer)[0].message.save
    assert run_state(told.session) == "CANCELLING"
    assert told(ev.SignalReceived("SIGINT")).asked(do.SignalTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.SessionEndRecorded())) == (Phase.CANCELLED, 130)


def test_sigterm_ends_with_143_and_what_was_saved_is_proved_first():
    told = running()(ev.SignalReceived("SIGTERM"), STAGED, ev.TrainerExited(0))
    assert not told.asked(do.RecordSessionEnd)
    assert ended(told(DURABLE, ev.SessionEndRecorded())) == (Phase.CANCELLED, 143)


def test_a_closed_terminal_saves_and_goes_on():
    told = running()(ev.SignalReceived("SIGHUP"))
    assert isinstance(told.asked(do.SendToTrainer)[0].message, SaveRequest)
    assert told.session.phase is Phase.RUNNING


def test_a_request_to_stop_now_overrides_one_to_save_first():
    told = running()(ev.FenceChecked(HERE, "save"))
    assert told.asked(do.SendToTrainer)
    assert not told(ev.FenceChecked(HERE, "save")).asked(do.SendToTrainer)
    assert told(ev.FenceChecked(HERE, "now")).asked(do.SignalTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.SessionEndRecorded())) == (Phase.CANCELLED, 143)


def test_a_trainer_that_does_not_stop_is_asked_then_killed():
    told = running(Config(save_every=SaveSchedule("steps", 5)))(ev.SignalReceived("SIGINT"))
    stopped_s = told.now.mono_s
    assert told.until(do.SignalTrainer).asked(do.SignalTrainer) == [do.SignalTrainer("term")]
    assert told.now.mono_s == stopped_s + 30
    assert told.until(do.SignalTrainer).asked(do.SignalTrainer) == KILL
    assert told.now.mono_s == stopped_s + 40


def test_a_notice_of_the_platform_saves_within_what_is_left_and_hands_over():
    told = running()(ev.PreemptionNotice(25.0, "spot machine"))
    assert told.asked(do.SendToTrainer)[0].message.grace_s <= 25
    assert ended(told(STAGED, ev.TrainerExited(0), DURABLE, ev.SessionEndRecorded())) == (Phase.HANDED_OVER, 42)


def test_a_short_notice_leaves_the_upload_its_measured_time():
    slow = ev.CheckpointDurable("/s/step-9", DURABLE.id, 9, 4.0, "fsync")
    told = running()(STAGED, slow, ev.PreemptionNotice(30.0, "spot machine"))
    assert told.asked(do.SendToTrainer)[0].message.grace_s == 30.0 - 2 * 4.0 - 2.0


def test_a_notice_that_is_not_certain_saves_and_goes_on():
    told = running()(ev.PreemptionNotice(120.0, "likely to be taken", certain=False))
    assert told.asked(do.SendToTrainer) == [do.SendToTrainer(SaveRequest("notice"))]
    assert told.session.phase is Phase.RUNNING
    assert "going on" in told.asked(do.Notify)[0].hint


def test_a_known_end_is_believed_over_a_notice_of_more():
    told = running(Config(time_limit=TimeLimit(700.0, hard=True)))
    told(ev.PreemptionNotice(9000.0, "SIGUSR1 from Slurm job 7"))
    left_s = 700.0 - (told.now.mono_s - told.session.started_s)
    assert told.session.timers.give_up_waiting == pytest.approx(told.now.mono_s + left_s)


def test_a_stop_before_the_claim_ends_at_once_and_records_nothing():
    told = Told()(ev.SessionStarted(), ev.SignalReceived("SIGINT"))
    assert not told.asked(do.RecordSessionEnd)
    assert ended(told) == (Phase.CANCELLED, 130)


def test_a_trainer_that_starts_while_the_session_ends_is_killed():
    told = Told()(ev.SessionStarted(), ev.RunInspected(()), ev.ClaimWritten(MINE)).wake()
    told(ev.RunInspected(HERE), ev.EnvironmentReady(1.0), ev.HistoryRead(), ev.CheckpointReady("", None))
    assert told.asked(do.StartTrainer)
    assert told(ev.SignalReceived("SIGTERM"), ev.TrainerStarted(7)).asked(do.SignalTrainer) == KILL


def test_a_defect_ends_the_session_in_a_named_state():
    told = running()(ev.InternalError("Traceback"))
    assert told.asked(do.SignalTrainer) == KILL
    assert ended(told(ev.TrainerExited(-9), ev.SessionEndRecorded())) == (Phase.FAILED, 1)
    assert run_state(told.session) == "FAILED_CONTROLLER"


def test_a_defect_while_the_end_is_written_does_not_write_it_for_ever():
    told = running()(*DONE)
    assert told.asked(do.RecordSessionEnd)
    assert not told(ev.InternalError("defect")).asked(do.RecordSessionEnd)
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
    [
        ev.SignalReceived("SIGTERM"),
        ev.PreemptionNotice(30.0, "a spot machine"),
        ev.PreemptionNotice(25.0, "SIGTERM from Slurm"),
    ],
    ids=str,
)
def test_a_stuck_trainer_leaves_time_for_the_end_record_within_what_a_platform_gives(asked):
    """Kubernetes and a reclaimed machine of Google give 30 seconds: a trainer that hears nothing is killed before."""
    told = running()(asked)
    within_s = getattr(asked, "in_s", 30.0)
    while not told.asked(do.SignalTrainer):
        told.wake()
    assert told.asked(do.SignalTrainer) == [do.SignalTrainer("term")]
    while told.asked(do.SignalTrainer) != [do.SignalTrainer("kill")]:
        told.wake()
    assert told.now.mono_s <= 1000.0 + within_s - 1.5
    assert told(ev.TrainerExited(-9)).asked(do.RecordSessionEnd)


def test_a_trainer_that_needs_longer_for_its_save_is_given_it_after_ctrl_c_and_sigterm():
    slow = ev.TrainerMessage(CheckpointStaged(9, "/s/step-9", 1, "auto", 2.0, 8.0))
    for name in ("SIGINT", "SIGTERM"):
        told = running()(slow, ev.SignalReceived(name))
        assert told.asked(do.SendToTrainer)[-1].message.grace_s >= 50.0


def test_a_hang_that_is_named_in_seconds_is_ended_within_as_many():
    """A stopped process does not hear the signal for its stacks, so it is killed."""
    told = running(Config(liveness=LivenessPolicy(fixed_s=3.0)))
    while told.asked(do.SignalTrainer) != [do.SignalTrainer("stacks")]:
        told.wake()
    while told.asked(do.SignalTrainer) != KILL:
        told.wake()
    assert told.now.mono_s <= 1000.0 + 7.0
