"""The script's own end: what counts as one, and what becomes of a process that goes on after it."""

from __future__ import annotations

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import liveness
from supervisor.core.messages import Beat, Finished, Hello, ScriptFailed, Staged
from supervisor.core.session import Config, Phase
from tests.unit.core.told import claimed, running

ATTACHED = ev.TrainerSaid(Hello(7, 1, attached=True))


def beat(step, section="step", total=40):
    return ev.TrainerSaid(Beat(step, section, total, None, 0.1))


def staged(step):
    return ev.TrainerSaid(Staged(step, f"/s/{step}", 1, "due", 0.1, 0.1))


def begun(config=None):
    return claimed(config)(ev.CheckpointReady("", None), ev.Launched(7), ATTACHED)


def restarted(told, folder=""):
    return told.until(do.Restore)(ev.CheckpointReady(folder, None), ev.Launched(7), ATTACHED)


def words_of(told):
    return " ".join(f"{said.words} {said.hint}" for said in told.asked(do.Say))


# --- exit code 0 -------------------------------------------------------------------------------------------------


def test_exit_code_0_inside_the_loop_is_no_success():
    told = begun()(beat(26), ev.TrainerExited(0))
    assert told.session.phase is Phase.BACKOFF
    assert "exit code 0 at step 26 of 40, before the script came to its end" in words_of(told)
    restarted(told)(beat(26), ev.TrainerExited(0))
    assert (told.session.phase, told.session.ending.phase, told.session.ending.exit_code) == (
        Phase.DRAINING, Phase.FAILED, 93,
    )  # fmt: skip
    assert "the same twice" in told.session.ending.words


def test_exit_code_0_inside_the_loop_goes_on_while_there_are_new_steps():
    told = begun()
    for step in range(10, 80, 10):
        told(beat(step, total=900), ev.TrainerExited(0))
        assert told.session.phase is Phase.BACKOFF
        restarted(told(staged(step)))


@pytest.mark.parametrize(
    "before",
    [
        (ATTACHED, beat(26), ev.TrainerSaid(Finished(26, short_of=40))),
        (ATTACHED, beat(40)),
        (ATTACHED, beat(26), staged(40)),
        (ATTACHED, beat(26, "after")),
        (ATTACHED, beat(0, "start")),
        (beat(26, total=None),),
        (),
    ],
    ids=["break", "total", "last save", "after the loop", "before the loop", "steps that nobody counts", "no word"],
)
def test_exit_code_0_elsewhere_is_the_end(before):
    told = claimed()(ev.CheckpointReady("", None), ev.Launched(7), *before, ev.TrainerExited(0))
    assert told.session.ending.phase is Phase.SUCCEEDED


def test_a_loop_that_was_left_is_said_with_its_total():
    told = begun()(beat(26), ev.TrainerSaid(Finished(26, short_of=40)), ev.TrainerExited(0))
    assert told.session.ending.words == "the script finished at step 26 of 40, because it left its loop"


@pytest.mark.parametrize("kind", ["left", "short"])
def test_a_script_that_says_that_it_ends_inside_its_loop_is_not_tried_again(kind):
    told = begun()(beat(26), ev.TrainerSaid(ScriptFailed(kind, "", "it left its loop at step 26 of 40", "t.py:3")))
    told(ev.TrainerExited(0))
    assert (told.session.ending.phase, told.session.ending.exit_code) == (Phase.FAILED, 1)
    assert told.session.ending.words == "it left its loop at step 26 of 40 (t.py:3)"


# --- the same end twice ------------------------------------------------------------------------------------------


def failing(told, kind, type_, step, where="t.py:12"):
    return told(beat(step), ev.TrainerSaid(ScriptFailed(kind, type_, "no", where)), ev.TrainerExited(1))


def test_the_same_error_at_the_same_line_is_tried_once_more_and_then_given_up():
    told = failing(restarted(failing(begun(), "script", "KeyError", 3)), "script", "KeyError", 3)
    assert told.session.ending.exit_code == 93
    assert told.session.ending.words.count("t.py:12") == 1


@pytest.mark.parametrize(
    "second", [("ValueError", 3, "t.py:12"), ("KeyError", 3, "t.py:99"), ("KeyError", 4, "t.py:12")]
)
def test_another_error_another_line_or_a_new_step_is_tried_on(second):
    type_, step, where = second
    told = failing(restarted(failing(begun(), "script", "KeyError", 3)), "script", type_, step, where)
    assert told.session.phase is Phase.BACKOFF


def test_an_error_in_the_code_ends_at_once_also_after_progress():
    told = failing(begun()(staged(20)), "code", "NameError", 25)
    assert (told.session.ending.phase, told.session.ending.exit_code) == (Phase.FAILED, 1)
    assert "t.py:12" in told.session.ending.words


def test_an_outage_is_tried_as_often_as_before():
    told = begun()
    for _ in range(3):
        assert failing(told, "outage", "URLError", 3).session.phase is Phase.BACKOFF
        restarted(told)
    assert failing(told, "outage", "URLError", 3).session.ending.exit_code == 93


@pytest.mark.parametrize("kind", ["code", "script"])
def test_with_another_of_the_scripts_files_the_same_error_is_tried_on(kind):
    told = begun()
    for _ in range(3):
        told(ev.TrainerSaid(ScriptFailed(kind, "TypeError", "no", "t.py:3")), ev.TrainerExited(1, other_file=True))
        assert told.session.phase is Phase.BACKOFF
        restarted(told)
    told(ev.TrainerSaid(ScriptFailed(kind, "TypeError", "no", "t.py:3")), ev.TrainerExited(1))
    assert told.session.ending.phase is Phase.FAILED


# --- a process that goes on --------------------------------------------------------------------------------------


def done(config=None, left="the thread 'uploader'"):
    return begun(config)(beat(40), ev.TrainerSaid(Finished(40, left=left)))


def waited(told, cpu_s=0.0, limit_s=3600.0):
    """Let the time pass, with this processor time more at each look, until the process is ended or the limit is over."""
    began_s, seen_s = told.now.mono_s, 0.0
    said = []
    while told.now.mono_s - began_s < limit_s and not told.asked(do.EndTrainer):
        told.wake()
        said += told.asked(do.Say)
        if told.asked(do.LookAtTrainer):
            seen_s += cpu_s
            told(ev.TrainerSeen(seen_s))
            said += told.asked(do.Say)
    return told.now.mono_s - began_s, said


def test_a_process_that_waits_for_a_thread_after_the_end_is_ended_and_succeeded():
    told = done()
    seconds, said = waited(told)
    assert told.asked(do.EndTrainer) == [do.EndTrainer("kill")]
    assert 55 <= seconds <= 65
    assert "the thread 'uploader'" in said[0].words
    assert "it is ended in 55 s" in said[0].hint
    told(ev.TrainerExited(-9))
    assert (told.session.ending.phase, told.session.ending.exit_code) == (Phase.SUCCEEDED, 0)
    assert "did not end by itself" in told.session.ending.words


def test_a_process_that_computes_after_the_end_has_more_time_but_not_for_ever():
    told = done()
    seconds, _ = waited(told, cpu_s=30.0)
    assert told.asked(do.EndTrainer)
    assert 590 <= seconds <= 700


def test_hang_after_is_the_grace_where_it_is_given():
    told = done(Config(liveness=liveness.Policy(fixed_s=4.0)))
    seconds, _ = waited(told)
    assert told.asked(do.EndTrainer)
    assert 3.9 <= seconds <= 6


def test_with_hang_after_none_it_is_said_and_waited_for():
    told = done(Config(liveness=liveness.Policy(enabled=False)))
    _, said = waited(told, limit_s=7200)
    assert told.session.trainer.alive
    assert len([each for each in said if "uploader" in each.words]) == 1


@pytest.mark.parametrize("code", [-11, -9, -6])
def test_a_crash_of_a_process_whose_script_is_done_is_said_and_succeeded(code):
    told = done()(ev.TrainerExited(code))
    assert told.session.ending.phase is Phase.SUCCEEDED
    assert "was done when its process was killed by SIG" in words_of(told)


def test_an_exit_code_after_the_end_is_a_failure_and_tried_once_more():
    told = done()(ev.TrainerExited(3))
    assert told.session.phase is Phase.BACKOFF
    restarted(told)(beat(40, "after"), ev.TrainerSaid(Finished(40)), ev.TrainerExited(3))
    assert told.session.ending.exit_code == 93


def test_a_hang_after_the_last_step_is_given_up_the_second_time():
    told = begun()
    for _ in range(2):
        told(beat(40, "after")).until(do.EndTrainer)
        told(ev.TrainerExited(-6))
        if told.session.phase is Phase.BACKOFF:
            restarted(told)
    assert told.session.ending.exit_code == 93


def test_a_stop_while_the_process_goes_on_after_the_end_is_obeyed():
    told = done()(ev.Signalled("SIGINT"))
    assert told.session.phase is Phase.DRAINING
    told(ev.TrainerExited(-15))
    assert told.session.ending.exit_code == 130


def test_a_session_with_a_step_count_keeps_its_words():
    told = running()(ev.TrainerSaid(Finished(900)), ev.TrainerExited(0))
    assert told.session.ending.words == "the script finished"


@pytest.mark.parametrize(
    ("hello", "kept"), [((ATTACHED,), "all that it trained is kept"), ((), "what it has saved by then is kept")]
)
def test_of_a_script_that_saves_by_itself_only_what_it_has_saved_is_said_to_be_kept(hello, kept):
    told = claimed()(ev.CheckpointReady("", None), ev.Launched(7), *hello, beat(40), ev.TrainerSaid(Finished(40)))
    told.wake()
    assert kept in words_of(told)
