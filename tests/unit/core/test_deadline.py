"""When a machine is expected to end, and when the last save must begin to be safe before that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.deadline import MARGIN_S_MAX, Lifetime, drain_at, expected

TWELVE_H = Lifetime(43200.0, hard=False)
SECONDS = st.floats(0, 2000)


@pytest.mark.parametrize(
    ("stated", "reached", "planned"),
    [
        (None, [30000.0, 30000.0], None),
        (TWELVE_H, [], TWELVE_H),
        (TWELVE_H, [20000.0], TWELVE_H),
        (TWELVE_H, [20000.0, 21000.0], Lifetime(21000.0, hard=False)),
        (TWELVE_H, [20000.0, 42000.0], TWELVE_H),
        (TWELVE_H, [20000.0, 50000.0], Lifetime(50000.0, hard=False)),
        (TWELVE_H, [82000.0], Lifetime(82000.0, hard=False)),
        (Lifetime(43200.0, hard=True), [82000.0], Lifetime(43200.0, hard=True)),
        (Lifetime(43200.0, hard=True), [20000.0, 21000.0], Lifetime(43200.0, hard=True)),
    ],
)
def test_a_soft_figure_gives_way_to_what_machines_really_reached(stated, reached, planned):
    assert expected(stated, reached) == planned


@given(st.floats(10, 100_000), SECONDS, SECONDS, SECONDS)
def test_a_save_that_begins_at_the_drain_is_through_before_the_end(life_s, save_s, upload_s, step_s):
    begins = drain_at(life_s, save_s=save_s, upload_s=upload_s, step_s=step_s)
    assert begins == 0 or begins + step_s + save_s + upload_s < life_s


@given(SECONDS, SECONDS, SECONDS)
def test_a_long_life_loses_little_to_the_margin(save_s, upload_s, step_s):
    begins = drain_at(1e6, save_s=save_s, upload_s=upload_s, step_s=step_s)
    assert begins == pytest.approx(1e6 - MARGIN_S_MAX - 2 * (save_s + upload_s + step_s))


def test_a_minute_is_enough_for_a_save():
    assert 50 < drain_at(60.0, save_s=0.5, upload_s=0.5, step_s=0.1) < 60
