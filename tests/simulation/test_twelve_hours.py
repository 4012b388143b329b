"""Twelve hours of one session pass in milliseconds, with every kind of end."""

from __future__ import annotations

from supervisor.core import commands as do
from supervisor.core.session import Phase
from tests.simulation.twelve_hours import TWELVE_H_S, Day


def test_a_hard_deadline_is_met_with_everything_durable():
    day = Day(hard=True).live()
    assert (day.session.phase, day.session.ending.exit_code) == (Phase.HANDED_OVER, 42)
    assert TWELVE_H_S - 600 < day.age_s < TWELVE_H_S
    assert day.session.saves.durable == day.durable
    assert day.session.saves.durable.step > (TWELVE_H_S - 600) / 0.5
    assert 30 < day.saves < 150
    assert 4000 < day.events < 8000


def test_a_soft_deadline_saves_and_works_on_until_the_machine_ends():
    day = Day(hard=False).live()
    assert day.session.phase is Phase.RUNNING
    assert day.session.drained
    assert day.age_s > TWELVE_H_S - 60
    assert day.session.saves.durable.step > (TWELVE_H_S - 600) / 0.5
    assert not [each for each in day.done if isinstance(each, do.EndTrainer | do.WriteEnd)]


def test_a_take_over_ends_it_within_a_look():
    day = Day(hard=True, taken_over_at_s=30000.0).live()
    assert (day.session.phase, day.session.ending.exit_code) == (Phase.FENCED, 75)
    assert 30000 <= day.age_s < 30000 + 70
    last = [each for each in day.done if isinstance(each, do.EndTrainer | do.WriteEnd)]
    assert [type(each) for each in last] == [do.EndTrainer, do.WriteEnd]
