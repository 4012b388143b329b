"""Causes told apart, waits as tenacity has them, and two budgets: one for the script, one for machines."""

from __future__ import annotations

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.recovery import (
    Cause,
    Death,
    GiveUp,
    Policy,
    Retry,
    WaitExponential,
    lost_machines_exceeded,
    name_death,
    next_move,
)

FACTORS = st.floats(0.01, 10)


@given(st.integers(1, 60), FACTORS, st.floats(1, 4), st.floats(0, 5), st.floats(5, 100))
def test_waits_are_those_of_tenacity(attempt, multiplier, base, least, most):
    state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    theirs = tenacity.wait_exponential(multiplier=multiplier, exp_base=base, min=least, max=most)
    assert WaitExponential(multiplier, base, least, most)(attempt) == pytest.approx(theirs(state))


@given(st.integers(1, 10_000))
def test_a_wait_never_grows_beyond_its_bound(attempt):
    assert 0 <= WaitExponential()(attempt) <= 60


@given(st.integers(1, 9), st.integers(0, 9))
def test_retries_stop_where_tenacity_would_stop(failures, restarts):
    state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = failures
    stops = tenacity.stop_after_attempt(restarts + 1)(state)
    move = next_move(Death(Cause.SCRIPT, "failed"), failures, Policy(max_restarts=restarts))
    assert isinstance(move, GiveUp) == stops


@pytest.mark.parametrize(
    ("cause", "failures", "restarts", "move"),
    [
        (Cause.SCRIPT, 1, 3, Retry(0.5)),
        (Cause.HANG, 2, 3, Retry(1.0)),
        (Cause.OUT_OF_MEMORY, 3, 3, Retry(2.0)),
        (Cause.SCRIPT, 4, 3, 93),
        (Cause.SIGNAL, 1, 0, 1),
        (Cause.SETUP, 1, 3, 3),
        (Cause.REFUSED, 1, 3, 3),
        (Cause.CODE, 1, 3, 1),
        (Cause.UNFINISHED, 1, 3, Retry(0.5)),
    ],
)
def test_what_follows_a_death(cause, failures, restarts, move):
    decided = next_move(Death(cause, "words"), failures, Policy(max_restarts=restarts))
    assert move == (decided if isinstance(decided, Retry) else decided.exit_code)


@pytest.mark.parametrize(
    ("exit_", "cause", "part"),
    [
        ({"code": -9, "oom": True}, Cause.OUT_OF_MEMORY, "memory"),
        ({"code": -9}, Cause.SIGNAL, "SIGKILL"),
        ({"code": -11}, Cause.SIGNAL, "SIGSEGV"),
        ({"code": -77}, Cause.SIGNAL, "signal 77"),
        ({"code": -6, "hung": True}, Cause.HANG, "no sign of life"),
        ({"code": -9, "oom": True, "hung": True}, Cause.HANG, "no sign of life"),
        ({"code": 1}, Cause.SCRIPT, "exit code 1"),
        ({"code": 1, "said": ("script", "ValueError: x")}, Cause.SCRIPT, "ValueError: x"),
        ({"code": 1, "said": ("setup", "ImportError: x")}, Cause.SETUP, "ImportError"),
        ({"code": 1, "said": ("refused", "a lambda")}, Cause.REFUSED, "lambda"),
        ({"code": 1, "said": ("device-oom", "CUDA")}, Cause.DEVICE_OUT_OF_MEMORY, "CUDA"),
        ({"code": 1, "oom": True}, Cause.SCRIPT, "exit code 1"),
        ({"code": 1, "said": ("code", "NameError: x (a.py:3)")}, Cause.CODE, "a.py:3"),
        ({"code": 1, "said": ("outage", "URLError: x")}, Cause.SCRIPT, "URLError"),
        ({"code": 7, "said": ("exit", "exit code 7 (a.py:3)")}, Cause.SCRIPT, "a.py:3"),
        ({"code": 0, "said": ("left", "left its loop")}, Cause.UNFINISHED, "left its loop"),
    ],
)
def test_causes_are_told_apart(exit_, cause, part):
    death = name_death(**{"oom": False, "hung": False, "said": None, **exit_})
    assert death.cause is cause
    assert part in death.words


@given(st.integers(-200, 300), st.booleans(), st.booleans(), st.one_of(st.none(), st.tuples(st.text(), st.text())))
def test_every_exit_has_a_cause_in_words(code, oom, hung, said):
    death = name_death(code=code, oom=oom, hung=hung, said=said)
    assert death.words
    assert (death.signal is None) == (code >= 0)


KINDS = ["setup", "refused", "code", "device-oom", "outage", "exit", "left", "short", "unfinished", "script", "other"]


@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_the_same_end_twice_is_given_up_unless_it_comes_from_outside(kind, failures, same, restarts):
    death = name_death(code=1, oom=False, hung=False, said=(kind, "words"))
    move = next_move(death, failures, Policy(max_restarts=restarts), same=same)
    if kind in {"outage", "device-oom"}:
        assert isinstance(move, GiveUp) == (failures > restarts)
    elif kind in {"setup", "refused", "code", "left", "short"}:
        assert isinstance(move, GiveUp), "it cannot help to try that again"
    else:
        assert isinstance(move, GiveUp) == (same >= 2 or failures > restarts)


@given(st.integers(-64, -1), st.booleans(), st.booleans(), st.integers(1, 9), st.integers(1, 3))
def test_signals_hangs_and_want_of_memory_are_tried_as_often_as_before(code, oom, hung, same, failures):
    death = name_death(code=code, oom=oom, hung=hung, said=("code", "NameError"))
    assert next_move(death, failures, Policy(), same=same) == Retry(Policy().wait(failures))


def test_the_words_of_a_second_end_in_the_same_place_say_so_and_name_it_once():
    death = name_death(code=1, oom=False, hung=False, said=("script", "KeyError: 'x' (train.py:12)"))
    move = next_move(death, 2, Policy(), same=2)
    assert move == GiveUp(93, "KeyError: 'x' (train.py:12); the same twice, without a new step in between: giving up")


def test_machines_have_a_budget_of_their_own_and_by_default_none():
    assert not lost_machines_exceeded(10_000, Policy())
    assert not lost_machines_exceeded(3, Policy(max_preemptions=3))
    assert lost_machines_exceeded(4, Policy(max_preemptions=3))
