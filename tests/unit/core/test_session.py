"""A session is one value; changing it makes another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.deadline import Lifetime
from supervisor.core.events import HistoryRead
from supervisor.core.session import Config, SaveEvery, Session, Timers, lifetime_end, save_interval
from tests.unit.core.draws import SESSIONS


@settings(max_examples=50, deadline=None)
@given(SESSIONS, st.floats(0, 1e6))
def test_a_changed_copy_is_what_dataclasses_make_of_it(session, seconds):
    assert session.with_(seen_s=seconds) == replace(session, seen_s=seconds)
    assert session.timed(kill=seconds) == replace(session, timers=replace(session.timers, kill=seconds))


def test_a_field_that_does_not_exist_cannot_be_changed():
    with pytest.raises(TypeError, match="mood"):
        Session(Config()).with_(mood="good")
    with pytest.raises(TypeError, match="moon"):
        Session(Config()).timed(moon=1.0)
    with pytest.raises(AttributeError):
        Timers().kill = 3.0


@pytest.mark.parametrize(
    ("config", "reached", "end"),
    [
        (Config(), (), None),
        (Config(lifetime=Lifetime(100.0, hard=True)), (), 1100.0),
        (Config(lifetime=Lifetime(100.0, hard=True), age_s=30.0), (), 1070.0),
        (Config(lifetime=Lifetime(43200.0, hard=False)), (20000.0, 21000.0), 22000.0),
    ],
)
def test_when_the_machine_is_expected_to_end(config, reached, end):
    assert lifetime_end(Session(config, started_s=1000.0, history=HistoryRead(reclaimed_s=reached))) == end


@pytest.mark.parametrize(
    ("save_every", "seconds"),
    [(SaveEvery(), 10.0), (SaveEvery("s", 45.0), 45.0), (SaveEvery("steps", 5.0), None), (SaveEvery("ep", 1.0), None)],
)
def test_how_often_the_supervisor_asks_for_a_save(save_every, seconds):
    every = save_interval(Session(Config(save_every=save_every)))
    assert (every.every_s if every else None) == seconds
