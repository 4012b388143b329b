"""Is the trainer well: time-outs learned from the run, one for each section."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.liveness import (
    AFTER,
    FACTOR,
    LEARNED_FLOOR_S,
    UNKNOWN_S,
    Policy,
    Vitals,
    hangs_at,
    judge,
    shortest,
    time_out,
)

SECTIONS = st.sampled_from(["start", "step", "save", "eval", AFTER, "my own"])


@pytest.mark.parametrize(
    ("vitals", "policy", "seconds"),
    [
        (Vitals("start"), Policy(), UNKNOWN_S["start"]),
        (Vitals("step", steps_seen=9, longest_s={"step": 100.0}), Policy(), UNKNOWN_S["step"]),
        (Vitals("step", steps_seen=10, longest_s={"step": 100.0}), Policy(), FACTOR * 100),
        (Vitals("step", steps_seen=10, longest_s={"step": 0.1}), Policy(), LEARNED_FLOOR_S),
        (Vitals(AFTER, steps_seen=10, longest_s={"step": 0.1, AFTER: 0.1}), Policy(), UNKNOWN_S["eval"]),
        (Vitals("eval", steps_seen=99, longest_s={"step": 0.1}), Policy(), UNKNOWN_S["eval"]),
        (Vitals("my own", steps_seen=99), Policy(), UNKNOWN_S["eval"]),
        (Vitals("eval", steps_seen=99, longest_s={"eval": 900.0}), Policy(fixed_s=7.0), 7.0),
    ],
)
def test_how_long_a_section_may_last(vitals, policy, seconds):
    assert time_out(vitals, policy) == seconds


@given(SECTIONS, st.floats(0, 1e5), st.integers(0, 99), st.floats(0, 1e4))
def test_judging_agrees_with_the_time_it_names(section, moved_at_s, steps, longest_s):
    vitals = Vitals(section, moved_at_s, steps, {section: longest_s})
    at = hangs_at(vitals, Policy())
    assert at > moved_at_s
    assert judge(vitals, Policy(), at)
    assert not judge(vitals, Policy(), at - 1.0)
    assert not judge(vitals, Policy(enabled=False), at + 1e9)


@given(
    SECTIONS,
    st.integers(0, 99),
    st.floats(0, 1e4),
    st.sampled_from([Policy(), Policy(fixed_s=3.0), Policy(floor_s=9e3)]),
)
def test_no_section_has_a_time_out_below_the_shortest(section, steps, longest_s, policy):
    assert time_out(Vitals(section, 0.0, steps, {section: longest_s}), policy) >= shortest(policy)


@given(st.floats(0, 1e4), st.integers(10, 99))
def test_what_was_seen_to_work_is_never_taken_for_a_hang(longest_s, steps):
    vitals = Vitals("step", 0.0, steps, {"step": longest_s})
    assert time_out(vitals, Policy()) > longest_s
