"""While the trainer runs: its death, its silence, the fence, the clock."""

from __future__ import annotations

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import liveness, recovery
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.machine import run_state
from supervisor.core.messages import Beat, Malformed, Note, ReadBack, SaveFailed, ScriptFailed, Staged
from supervisor.core.session import Config, Phase, SaveEvery
from tests.unit.core.told import DONE, HERE, claimed, running

NO_SAVES = SaveEvery("steps", 5)


def test_a_hung_trainer_is_asked_for_its_stacks_and_killed_if_it_does_not_hear():
    told = running(Config(liveness=liveness.Policy(fixed_s=20.0), save_every=NO_SAVES)).until(do.EndTrainer)
    assert told.asked(do.EndTrainer) == [do.EndTrainer("stacks")]
    assert told.until(do.EndTrainer).asked(do.EndTrainer) == [do.EndTrainer("kill")]
    assert told(ev.TrainerExited(-9)).session.cause == recovery.Cause.HANG


def test_beats_keep_a_trainer_from_being_taken_for_hung():
    told = running(Config(liveness=liveness.Policy(fixed_s=20.0), save_every=NO_SAVES))
    for step in range(1, 50):
        told(ev.TrainerSaid(Beat(step, "step")), ev.Woke(), after_s=19.0)
        assert not told.asked(do.EndTrainer)


def test_beats_that_do_not_move_are_no_sign_of_life():
    told = running(Config(liveness=liveness.Policy(fixed_s=20.0), save_every=NO_SAVES))
    for _ in range(3):
        told(ev.TrainerSaid(Beat(0, "step")), after_s=7.0)
    assert told.wake().asked(do.EndTrainer)


def test_a_machine_that_slept_does_not_take_its_trainer_for_hung():
    told = running(Config(liveness=liveness.Policy(fixed_s=20.0), save_every=NO_SAVES))
    assert not told(ev.Woke(), after_s=4000.0).asked(do.EndTrainer)


def begun():
    return claimed(Config(save_every=NO_SAVES))(
        ev.CheckpointReady("", None), ev.Launched(7), ev.TrainerSaid(Beat(0, "start"))
    )


def test_a_silent_script_is_not_ended_before_its_first_step_while_it_computes():
    told = begun()
    for cpu_s in (100.0, 2000.0, None):
        told.until(do.LookAtTrainer)
        assert not told(ev.TrainerSeen(cpu_s)).asked(do.EndTrainer)


def test_a_silent_script_that_does_not_compute_either_hangs():
    told = begun().until(do.LookAtTrainer)
    told(ev.TrainerSeen(100.0)).until(do.LookAtTrainer)
    assert told(ev.TrainerSeen(100.5)).asked(do.EndTrainer) == [do.EndTrainer("stacks")]
    assert told(ev.TrainerExited(-6)).session.cause == recovery.Cause.HANG


def test_a_death_is_followed_by_a_restart_from_the_local_disk():
    told = running()(ev.TrainerExited(-11))
    assert told.session.phase is Phase.BACKOFF
    assert told.until(do.Restore)(ev.CheckpointReady("/s/step-1", None)).asked(do.Launch) == [do.Launch(2, "/s/step-1")]
    assert run_state(told.session) == "RECOVERING"


def test_a_script_that_cannot_start_is_not_tried_again():
    told = running()(ev.TrainerSaid(ScriptFailed("setup", "ImportError", "no module", "x.py:1")), ev.TrainerExited(1))
    assert told.asked(do.WriteEnd)[0].exit_code == 3
    assert told(ev.EndWritten()).session.phase is Phase.FAILED
    assert run_state(told.session) == "FAILED_SETUP"


def test_failures_without_progress_end_in_93_and_progress_resets_the_count():
    told = running(Config(restarts=recovery.Policy(max_restarts=2)))
    for attempt in range(6):
        told(ev.TrainerSaid(Staged(10 * attempt + 10, f"/s/{attempt}", 1, "due", 0.1, 0.1)), ev.TrainerExited(1)).until(
            do.Restore
        )
        told(ev.CheckpointReady(f"/s/{attempt}", None), ev.Launched(7))
    told(ev.TrainerExited(1)).until(do.Restore)(ev.CheckpointReady("", None), ev.Launched(7))
    told(ev.TrainerExited(1)).until(do.WriteEnd)
    assert told.asked(do.WriteEnd)[0].exit_code == 93


def test_a_script_that_could_not_save_its_end_is_not_called_finished():
    told = running()(ev.TrainerSaid(SaveFailed(900, "disk full")), *DONE)
    assert told.session.phase is Phase.BACKOFF
    assert "disk full" in told.asked(do.Say)[0].words
    saved = running()(ev.TrainerSaid(SaveFailed(800, "disk full")), ev.TrainerSaid(Staged(900, "/s", 1, "final", 0, 0)))
    assert saved(*DONE).session.ending.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(("section", "step_s", "end"), [("start", None, 45), ("save", None, 45), ("step", 0.1, 34)])
def test_a_script_finishes_at_the_step_it_tells_or_else_at_that_of_its_newest_snapshot(section, step_s, end):
    beat = ev.TrainerSaid(Beat(34, section, None, None, step_s))
    told = running()(beat, ev.TrainerSaid(Staged(45, "/s", 1, "due", 0.1, 0.1)), *DONE)
    assert told.session.ending.words == f"the script finished at step {end}"


def test_out_of_memory_is_named_and_said_what_to_do_about():
    told = running(Config(restarts=recovery.Policy(max_restarts=0)))(ev.TrainerExited(-9, oom=True))
    [said] = told.asked(do.Say)
    assert "memory" in said.words
    assert "smaller batch" in said.hint


def test_a_zombie_looks_before_it_writes_and_ends_with_75():
    told = running()(ev.Woke(), after_s=4000.0)
    assert told.session.frozen
    assert told.asked(do.LookAtFence)
    told(ev.FenceSeen((*HERE, "e00000004-next")))
    assert told.asked(do.EndTrainer) == [do.EndTrainer("kill")]
    told(ev.FenceSeen(HERE))
    assert told.session.frozen
    told(ev.TrainerExited(-9), ev.EndWritten())
    assert (told.session.phase, told.session.ending.exit_code) == (Phase.FENCED, 75)


def test_a_machine_that_slept_alone_goes_on():
    told = running()(ev.Woke(), after_s=4000.0)(ev.FenceSeen(HERE))
    assert not told.session.frozen
    assert told.session.phase is Phase.RUNNING


def test_a_store_that_does_not_answer_is_no_failure_of_the_run():
    told = running()(ev.FenceUnreadable("Input/output error"))
    assert told.session.phase is Phase.RUNNING
    assert told.asked(do.Say)[0].level == "warning"
    assert told.until(do.LookAtFence)


@pytest.mark.parametrize("said", [Malformed("not JSON", "hello"), Note("info", "made caches")])
def test_words_of_the_trainer_change_nothing(said):
    before = running()
    after = running()(ev.TrainerSaid(said)).session
    assert after == before.session


def _again(told, step, saved):
    """An attempt that reads nothing of what was put back, does its steps again, saves again and fails at its line."""
    failed = ev.TrainerSaid(ScriptFailed("script", "ValueError", "no batch", "train.py:6"))
    staged = ev.TrainerSaid(Staged(saved, f"/s/{saved}", 1, "files", 0.1, 0.1))
    beat = ev.TrainerSaid(Beat(step, "step", None, None, 0.1))
    told(ev.TrainerSaid(ReadBack("")), beat, staged, failed, ev.TrainerExited(1))
    if told.session.phase is Phase.BACKOFF:
        told.until(do.Restore)(ev.CheckpointReady("/s/x", None, files=True), ev.Launched(7))
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
    beat = ev.TrainerSaid(Beat(reached, "step", None, None, 0.1))
    staged = ev.TrainerSaid(Staged(reached, f"/s/{reached}", 1, "files", 0.1, 0.1))
    said = [ev.TrainerSaid(ScriptFailed("script", "ValueError", "no such layer", "train.py:9"))] if failed else []
    told(*([ev.TrainerSaid(ReadBack("model.pt"))] if base else []), beat, staged, *said, exited)
    if told.session.phase is Phase.BACKOFF:
        ready = ev.CheckpointReady("/s/x", CheckpointId(3, reached, "mine", 1), files=True)
        told.until(do.Restore)(ready, ev.Launched(7))
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
    assert "4 attempts in a row made as many steps and ended like that" in told.session.ending.words


def test_the_second_such_attempt_says_that_it_is_no_progress():
    told = running(Config(save_every=NO_SAVES))
    _over_again(told, 40, exited=ev.TrainerExited(1))
    told(ev.TrainerSaid(ReadBack("model.pt")), ev.TrainerSaid(Beat(80, "step", None, None, 0.1)))
    told(ev.TrainerSaid(ScriptFailed("script", "ValueError", "no such layer", "train.py:9")), ev.TrainerExited(1))
    [said] = told.asked(do.Say)
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
