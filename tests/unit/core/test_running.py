"""While the trainer runs: its death, its silence, the fence, the clock."""

from __future__ import annotations

import pytest

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.policy import liveness, recovery
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import Config, Phase, SaveSchedule
from supervisor.core.session.state_machine import run_state
from supervisor.core.wire.messages import (
    CheckpointStaged,
    Heartbeat,
    Malformed,
    ReadBack,
    SaveFailed,
    ScriptFailed,
    TrainerNote,
)
from tests.unit.core.told import DONE, HERE, claimed, running

NO_SAVES = SaveSchedule("steps", 5)


def test_a_hung_trainer_is_asked_for_its_stacks_and_killed_if_it_does_not_hear():
    told = running(Config(liveness=liveness.LivenessPolicy(fixed_s=20.0), save_every=NO_SAVES)).until(do.SignalTrainer)
    assert told.asked(do.SignalTrainer) == [do.SignalTrainer("stacks")]
    assert told.until(do.SignalTrainer).asked(do.SignalTrainer) == [do.SignalTrainer("kill")]
    assert told(ev.TrainerExited(-9)).session.cause == recovery.Cause.HANG


def test_beats_keep_a_trainer_from_being_taken_for_hung():
    told = running(Config(liveness=liveness.LivenessPolicy(fixed_s=20.0), save_every=NO_SAVES))
    for step in range(1, 50):
        told(ev.TrainerMessage(Heartbeat(step, "step")), ev.TimerFired(), after_s=19.0)
        assert not told.asked(do.SignalTrainer)


def test_beats_that_do_not_move_are_no_sign_of_life():
    told = running(Config(liveness=liveness.LivenessPolicy(fixed_s=20.0), save_every=NO_SAVES))
    for _ in range(3):
        told(ev.TrainerMessage(Heartbeat(0, "step")), after_s=7.0)
    assert told.wake().asked(do.SignalTrainer)


def test_a_machine_that_slept_does_not_take_its_trainer_for_hung():
    told = running(Config(liveness=liveness.LivenessPolicy(fixed_s=20.0), save_every=NO_SAVES))
    assert not told(ev.TimerFired(), after_s=4000.0).asked(do.SignalTrainer)


def begun():
    return claimed(Config(save_every=NO_SAVES))(
        ev.CheckpointReady("", None), ev.TrainerStarted(7), ev.TrainerMessage(Heartbeat(0, "start"))
    )


def test_a_silent_script_is_not_ended_before_its_first_step_while_it_computes():
    told = begun()
    for cpu_s in (100.0, 2000.0, None):
        told.until(do.SampleTrainerCpu)
        assert not told(ev.TrainerCpuSampled(cpu_s)).asked(do.SignalTrainer)


def test_a_silent_script_that_does_not_compute_either_hangs():
    told = begun().until(do.SampleTrainerCpu)
    told(ev.TrainerCpuSampled(100.0)).until(do.SampleTrainerCpu)
    assert told(ev.TrainerCpuSampled(100.5)).asked(do.SignalTrainer) == [do.SignalTrainer("stacks")]
    assert told(ev.TrainerExited(-6)).session.cause == recovery.Cause.HANG


def test_a_death_is_followed_by_a_restart_from_the_local_disk():
    told = running()(ev.TrainerExited(-11))
    assert told.session.phase is Phase.BACKOFF
    assert told.until(do.FetchCheckpoint)(ev.CheckpointReady("/s/step-1", None)).asked(do.StartTrainer) == [
        do.StartTrainer(2, "/s/step-1")
    ]
    assert run_state(told.session) == "RECOVERING"


def test_a_script_that_cannot_start_is_not_tried_again():
    told = running()(
        ev.TrainerMessage(ScriptFailed("setup", "ImportError", "no module", "x.py:1")), ev.TrainerExited(1)
    )
    assert told.asked(do.RecordSessionEnd)[0].exit_code == 3
    assert told(ev.SessionEndRecorded()).session.phase is Phase.FAILED
    assert run_state(told.session) == "FAILED_SETUP"


def test_failures_without_progress_end_in_93_and_progress_resets_the_count():
    told = running(Config(restarts=recovery.RetryPolicy(max_restarts=2)))
    for attempt in range(6):
        told(
            ev.TrainerMessage(CheckpointStaged(10 * attempt + 10, f"/s/{attempt}", 1, "due", 0.1, 0.1)),
            ev.TrainerExited(1),
        ).until(do.FetchCheckpoint)
        told(ev.CheckpointReady(f"/s/{attempt}", None), ev.TrainerStarted(7))
    told(ev.TrainerExited(1)).until(do.FetchCheckpoint)(ev.CheckpointReady("", None), ev.TrainerStarted(7))
    told(ev.TrainerExited(1)).until(do.RecordSessionEnd)
    assert told.asked(do.RecordSessionEnd)[0].exit_code == 93


def test_a_script_that_could_not_save_its_end_is_not_called_finished():
    told = running()(ev.TrainerMessage(SaveFailed(900, "disk full")), *DONE)
    assert told.session.phase is Phase.BACKOFF
    assert "disk full" in told.asked(do.Notify)[0].message
    saved = running()(
        ev.TrainerMessage(SaveFailed(800, "disk full")),
        ev.TrainerMessage(CheckpointStaged(900, "/s", 1, "final", 0, 0)),
    )
    assert saved(*DONE).session.ending.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(("section", "step_s", "end"), [("start", None, 45), ("save", None, 45), ("step", 0.1, 34)])
def test_a_script_finishes_at_the_step_it_tells_or_else_at_that_of_its_newest_snapshot(section, step_s, end):
    beat = ev.TrainerMessage(Heartbeat(34, section, None, None, step_s))
    told = running()(beat, ev.TrainerMessage(CheckpointStaged(45, "/s", 1, "due", 0.1, 0.1)), *DONE)
    assert told.session.ending.message == f"the script finished at step {end}"


def test_out_of_memory_is_named_and_said_what_to_do_about():
    told = running(Config(restarts=recovery.RetryPolicy(max_restarts=0)))(ev.TrainerExited(-9, oom=True))
    [said] = told.asked(do.Notify)
    assert "memory" in said.message
    assert "smaller batch" in said.hint


def test_a_zombie_looks_before_it_writes_and_ends_with_75():
    told = running()(ev.TimerFired(), after_s=4000.0)
    assert told.session.writes_suspended
    assert told.asked(do.CheckFence)
    told(ev.FenceChecked((*HERE, "e00000004-next")))
    assert told.asked(do.SignalTrainer) == [do.SignalTrainer("kill")]
    told(ev.FenceChecked(HERE))
    assert told.session.writes_suspended
    told(ev.TrainerExited(-9), ev.SessionEndRecorded())
    assert (told.session.phase, told.session.ending.exit_code) == (Phase.FENCED, 75)


def test_a_machine_that_slept_alone_goes_on():
    told = running()(ev.TimerFired(), after_s=4000.0)(ev.FenceChecked(HERE))
    assert not told.session.writes_suspended
    assert told.session.phase is Phase.RUNNING


def test_a_store_that_does_not_answer_is_no_failure_of_the_run():
    told = running()(ev.StoreUnreachable("Input/output error"))
    assert told.session.phase is Phase.RUNNING
    assert told.asked(do.Notify)[0].level == "warning"
    assert told.until(do.CheckFence)


@pytest.mark.parametrize("said", [Malformed("not JSON", "hello"), TrainerNote("info", "made caches")])
def test_words_of_the_trainer_change_nothing(said):
    before = running()
    after = running()(ev.TrainerMessage(said)).session
    assert after == before.session


def _again(told, step, saved):
    """An attempt that reads nothing of what was put back, does its steps again, saves again and fails at its line."""
    failed = ev.TrainerMessage(ScriptFailed("script", "ValueError", "no batch", "train.py:6"))
    staged = ev.TrainerMessage(CheckpointStaged(saved, f"/s/{saved}", 1, "files", 0.1, 0.1))
    beat = ev.TrainerMessage(Heartbeat(step, "step", None, None, 0.1))
    told(ev.TrainerMessage(ReadBack("")), beat, staged, failed, ev.TrainerExited(1))
    if told.session.phase is Phase.BACKOFF:
        told.until(do.FetchCheckpoint)(ev.CheckpointReady("/s/x", None, files=True), ev.TrainerStarted(7))
        return True
    return False


@pytest.mark.parametrize("step", [31, 0], ids=["counted", "nobody counts"])
def test_saves_of_steps_that_are_done_again_are_no_progress(step):
    told = running(Config(save_every=NO_SAVES))
    assert _again(told, step, 31)
    assert not _again(told, step, 32)
    assert told.session.ending.exit_code == 93


def test_steps_beyond_those_of_all_attempts_are_progress_though_the_script_began_again():
    told = running(Config(save_every=NO_SAVES))
    assert all(_again(told, 31 + 10 * attempt, 31 + 10 * attempt) for attempt in range(8))


def _over_again(told, steps, *, exited, base=0, failed=True):
    """An attempt that opens what was put back, makes ``steps`` counted on from there, saves at the end and ends."""
    reached = base + steps
    beat = ev.TrainerMessage(Heartbeat(reached, "step", None, None, 0.1))
    staged = ev.TrainerMessage(CheckpointStaged(reached, f"/s/{reached}", 1, "files", 0.1, 0.1))
    said = [ev.TrainerMessage(ScriptFailed("script", "ValueError", "no such layer", "train.py:9"))] if failed else []
    told(*([ev.TrainerMessage(ReadBack("model.pt"))] if base else []), beat, staged, *said, exited)
    if told.session.phase is Phase.BACKOFF:
        ready = ev.CheckpointReady("/s/x", CheckpointId(3, reached, "mine", 1), files=True)
        told.until(do.FetchCheckpoint)(ready, ev.TrainerStarted(7))
        return True
    return False


@pytest.mark.parametrize(
    ("steps", "exited", "failed"),
    [
        ((40, 40, 40, 40), ev.TrainerExited(1), True),
        ((40, 41, 39, 40), ev.TrainerExited(1), True),
        ((40, 40, 40, 40), ev.TrainerExited(-9, oom=True), False),
    ],
    ids=["an error", "about as many steps", "out of memory at its end"],
)
def test_a_script_that_opens_its_file_and_trains_everything_again_is_not_tried_without_bound(steps, exited, failed):
    told, base = running(Config(save_every=NO_SAVES)), 0
    for number, each in enumerate(steps, 1):
        assert _over_again(told, each, exited=exited, base=base, failed=failed) == (number < len(steps))
        base += each
        if 1 < number < len(steps):
            assert told.session.failures == number
    assert told.session.ending.exit_code == 93
    assert "4 attempts in a row made as many steps and ended like that" in told.session.ending.message


def test_the_second_such_attempt_says_that_it_is_no_progress():
    told = running(Config(save_every=NO_SAVES))
    _over_again(told, 40, exited=ev.TrainerExited(1))
    told(ev.TrainerMessage(ReadBack("model.pt")), ev.TrainerMessage(Heartbeat(80, "step", None, None, 0.1)))
    told(ev.TrainerMessage(ScriptFailed("script", "ValueError", "no such layer", "train.py:9")), ev.TrainerExited(1))
    [said] = told.asked(do.Notify)
    assert "as many steps as the attempt before and ended in the same way: this counts as no progress" in said.hint


@pytest.mark.parametrize(
    ("steps", "exited", "failed"),
    [
        ((40, 30, 20, 15, 10, 5), ev.TrainerExited(1), True),
        ((40, 42, 41, 40, 43, 42), ev.TrainerExited(-9, oom=True), False),
    ],
    ids=["fewer steps each time", "memory that runs out"],
)
def test_a_script_that_goes_on_from_its_file_and_gets_farther_is_tried_again(steps, exited, failed):
    told, base = running(Config(save_every=NO_SAVES)), 0
    for each in steps:
        assert _over_again(told, each, exited=exited, base=base, failed=failed)
        base += each
