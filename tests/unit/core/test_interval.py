"""Saves often enough to lose little, seldom enough to cost little."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import interval
from supervisor.core.interval import LIFE_S_PRIOR, SAVE_S_MAX, SAVE_S_MIN, best, mean_life

COSTS = st.floats(0, 1000)
LIVES = st.floats(1, 1e7)


@pytest.mark.parametrize(
    ("cost_s", "upload_s", "life_s", "every_s"),
    [
        (0.5, 1.0, 21600.0, math.sqrt(2 * 0.5 * 21600)),
        (2.0, 4.0, 43200.0, math.sqrt(2 * 2 * 43200)),
        (0.0, 0.0, 21600.0, SAVE_S_MIN),
        (600.0, 0.0, 1e6, SAVE_S_MAX),
        (0.1, 500.0, 21600.0, 600.0),
        (0.1, 2000.0, 21600.0, 2400.0),
    ],
)
def test_the_interval_is_youngs_within_bounds_and_not_shorter_than_an_upload(cost_s, upload_s, life_s, every_s):
    assert best(cost_s, upload_s, life_s).every_s == pytest.approx(every_s)


@given(COSTS, COSTS, LIVES)
def test_a_save_never_waits_for_the_one_before_it_to_arrive(cost_s, upload_s, life_s):
    chosen = best(cost_s, upload_s, life_s)
    assert chosen.every_s >= 1.2 * upload_s
    assert chosen.every_s >= SAVE_S_MIN
    assert chosen.loss_s >= chosen.every_s / 2
    assert 0 <= chosen.cost < 1


@given(COSTS, COSTS, LIVES, st.floats(1, 10))
def test_longer_lives_and_dearer_saves_mean_fewer_of_them(cost_s, upload_s, life_s, more):
    once = best(cost_s, upload_s, life_s).every_s
    assert best(cost_s, upload_s, life_s * more).every_s >= once
    assert best(cost_s * more, upload_s, life_s).every_s >= once


def test_within_its_bounds_no_other_interval_costs_less():
    cost_s, life_s = 1.0, 21600.0
    chosen = best(cost_s, 0.0, life_s).every_s

    def waste(every_s):
        return cost_s / every_s + every_s / (2 * life_s)

    assert waste(chosen) <= min(waste(chosen * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_the_mean_life_is_learned_from_losses():
    assert mean_life((), 0) == LIFE_S_PRIOR
    assert mean_life((3600.0, 3600.0), 2) == (LIFE_S_PRIOR + 7200) / 3
    assert mean_life((43200.0,), 0) > mean_life((43200.0,), 1)


def test_the_words_say_what_a_death_and_a_save_cost() -> None:
    said = interval.words(interval.Interval(every_s=39.4, loss_s=20.0, cost=0.0201))
    assert "every 39 s" in said
    assert "about 20 s of work" in said
    assert "2.0 % of the time" in said
    assert "under 0.1 %" in interval.words(interval.Interval(60.0, 30.0, 0.0001))
