"""Is the trainer well: time-outs learned from the run, one for each section."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.policy.liveness import (
    FACTOR,
    LEARNED_FLOOR_S,
    SECTION_AFTER_LOOP,
    UNKNOWN_S,
    Heartbeats,
    LivenessPolicy,
    hang_deadline,
    judge,
    shortest,
    time_out,
)

SECTIONS = st.sampled_from(["start", "step", "save", "eval", SECTION_AFTER_LOOP, "my own"])


@pytest.mark.parametrize(
    ("vitals", "policy", "seconds"),
    [
        (Heartbeats("start"), LivenessPolicy(), UNKNOWN_S["start"]),
        (Heartbeats("step", steps_seen=9, longest_s={"step": 100.0}), LivenessPolicy(), UNKNOWN_S["step"]),
        (Heartbeats("step", steps_seen=10, longest_s={"step": 100.0}), LivenessPolicy(), FACTOR * 100),
        (Heartbeats("step", steps_seen=10, longest_s={"step": 0.1}), LivenessPolicy(), LEARNED_FLOOR_S),
        (
            Heartbeats(SECTION_AFTER_LOOP, steps_seen=10, longest_s={"step": 0.1, SECTION_AFTER_LOOP: 0.1}),
            LivenessPolicy(),
            UNKNOWN_S["eval"],
        ),
        (Heartbeats("eval", steps_seen=99, longest_s={"step": 0.1}), LivenessPolicy(), UNKNOWN_S["eval"]),
        (Heartbeats("my own", steps_seen=99), LivenessPolicy(), UNKNOWN_S["eval"]),
        (Heartbeats("eval", steps_seen=99, longest_s={"eval": 900.0}), LivenessPolicy(fixed_s=7.0), 7.0),
    ],
)
def test_how_long_a_section_may_last(vitals, policy, seconds):
    assert time_out(vitals, policy) == seconds


@given(SECTIONS, st.floats(0, 1e5), st.integers(0, 99), st.floats(0, 1e4))
def test_judging_agrees_with_the_time_it_names(section, moved_at_s, steps, longest_s):
    vitals = Heartbeats(section, moved_at_s, steps, {section: longest_s})
    at = hang_deadline(vitals, LivenessPolicy())
    assert at > moved_at_s
    assert judge(vitals, LivenessPolicy(), at)
    assert not judge(vitals, LivenessPolicy(), at - 1.0)
    assert not judge(vitals, LivenessPolicy(enabled=False), at + 1e9)


@given(
    SECTIONS,
    st.integers(0, 99),
    st.floats(0, 1e4),
    st.sampled_from([LivenessPolicy(), LivenessPolicy(fixed_s=3.0), LivenessPolicy(floor_s=9e3)]),
)
def test_no_section_has_a_time_out_below_the_shortest(section, steps, longest_s, policy):
    assert time_out(Heartbeats(section, 0.0, steps, {section: longest_s}), policy) >= shortest(policy)


@given(st.floats(0, 1e4), st.integers(10, 99))
def test_what_was_seen_to_work_is_never_taken_for_a_hang(longest_s, steps):
    vitals = Heartbeats("step", 0.0, steps, {"step": longest_s})
    assert time_out(vitals, LivenessPolicy()) > longest_s
