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


def test_machines_have_a_budget_of_their_own_and_by_default_none():
    assert not lost_machines_exceeded(10_000, Policy())
    assert not lost_machines_exceeded(3, Policy(max_preemptions=3))
    assert lost_machines_exceeded(4, Policy(max_preemptions=3))
