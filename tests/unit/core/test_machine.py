"""The laws of decide and next_wakeup, on sessions driven by a random world and on sessions nobody can reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.deadline import Lifetime
from supervisor.core.instant import Instant
from supervisor.core.machine import SOONEST_S, TABLE, TICK_S, TRANSITIONS, decide, next_wakeup, run_state
from supervisor.core.session import FINAL, Config, Phase, Session
from tests.unit.core.draws import CONFIGS, EVENTS, SESSIONS
from tests.unit.core.driven import life
from tests.unit.core.told import running

SEEDS = st.integers(0, 2**32)
LIVES = settings(max_examples=25, deadline=None)
ANY = settings(max_examples=150, deadline=None)


@LIVES
@given(SEEDS, CONFIGS)
def test_decide_never_raises_while_a_world_drives_it(seed, config):
    assert sum(1 for _ in life(seed, config)) > 1


@ANY
@given(SESSIONS, EVENTS, st.floats(0, 2000))
def test_decide_never_raises_for_any_session_and_any_event(session, event, wait_s):
    now = Instant(session.seen_s + wait_s, 5.0)
    after, commands = decide(session, event, now)
    assert isinstance(after, Session)
    assert isinstance(commands, tuple)
    assert next_wakeup(after) > after.seen_s
    assert run_state(after)


@LIVES
@given(CONFIGS, st.lists(st.tuples(st.floats(0, 100), EVENTS), max_size=60))
def test_decide_never_raises_for_any_sequence_of_events(config, happened):
    session, now = Session(config), Instant(1000.0, 3.0)
    for wait_s, event in happened:
        now = now.later(wait_s)
        session, _ = decide(session, event, now)
        assert next_wakeup(session) > now.mono_s or session.phase in FINAL


@LIVES
@given(SEEDS, CONFIGS)
def test_the_next_wake_up_is_later_than_now(seed, config):
    for moment in life(seed, config):
        if moment.before.phase not in FINAL:
            assert moment.after.seen_s == moment.now.mono_s
        assert next_wakeup(moment.after) > moment.after.seen_s


@LIVES
@given(SEEDS, CONFIGS)
def test_a_session_that_only_wakes_does_not_spin(seed, config):
    """Whatever state it reached: woken when it asked to be, it soon has nothing left to do but to tick."""
    for number, moment in enumerate(life(seed, config, moments=120)):
        if number % 12 == 0 and moment.after.phase not in FINAL:
            session = moment.after
            soon = 0
            for _ in range(40):
                at = next_wakeup(session)
                soon += at - session.seen_s <= 10 * SOONEST_S
                session, _ = decide(session, ev.Woke(), Instant(at, 1.0))
            assert soon < 10
            assert session.phase in FINAL or session.seen_s > moment.after.seen_s + 20 * SOONEST_S


@LIVES
@given(SEEDS, CONFIGS)
def test_phases_follow_one_another_as_in_the_diagram(seed, config):
    for moment in life(seed, config):
        was, now = moment.before.phase, moment.after.phase
        assert was == now or now in TRANSITIONS[was]


@LIVES
@given(SEEDS, CONFIGS)
def test_a_final_phase_commands_nothing_but_one_announcement_of_the_end(seed, config):
    ends = []
    for moment in life(seed, config):
        if moment.before.phase in FINAL:
            assert moment.commands == ()
            assert moment.after == moment.before
        elif moment.after.phase in FINAL:
            ends = [each for each in moment.commands if isinstance(each, do.Announce)]
            assert ends[0].exit_code == moment.after.ending.exit_code
            assert not [each for each in moment.commands if isinstance(each, do.Publish | do.Retain | do.Launch)]
    assert len(ends) <= 1


@LIVES
@given(SEEDS, CONFIGS)
def test_what_people_see_is_announced_when_it_changes_and_only_then(seed, config):
    last = None
    for moment in life(seed, config):
        for command in moment.commands:
            if isinstance(command, do.Announce):
                assert command != last
                last = command
        if moment.before.phase not in FINAL:
            assert (last.phase, last.attempt) == (moment.after.phase, moment.after.trainer.attempt)


@LIVES
@given(SEEDS, CONFIGS)
def test_one_upload_is_in_flight_and_at_most_one_waits(seed, config):
    flying = None
    for moment in life(seed, config):
        if isinstance(moment.event, ev.Durable | ev.PublishFailed) and moment.event.folder == flying:
            flying = None
        for command in moment.commands:
            if isinstance(command, do.Publish):
                assert flying is None
                flying = command.folder


@LIVES
@given(SEEDS, CONFIGS)
def test_a_fenced_or_frozen_session_publishes_and_removes_nothing(seed, config):
    for moment in life(seed, config):
        if moment.after.frozen or (moment.after.ending and moment.after.ending.phase is Phase.FENCED):
            assert not [each for each in moment.commands if isinstance(each, do.Publish | do.Retain)]
        if moment.before.ending and moment.before.ending.phase is Phase.FENCED and moment.after.phase not in FINAL:
            assert moment.after.frozen


@LIVES
@given(SEEDS, CONFIGS)
def test_the_folder_a_restart_would_need_is_not_discarded(seed, config):
    for moment in life(seed, config):
        for command in moment.commands:
            if isinstance(command, do.Discard):
                assert command.folder not in {moment.after.saves.newest, moment.after.saves.publishing}


@LIVES
@given(SEEDS, CONFIGS)
def test_only_what_was_proved_is_called_safe(seed, config):
    proved = set()
    for moment in life(seed, config):
        if isinstance(moment.event, ev.Durable):
            proved.add(moment.event.id)
        if isinstance(moment.event, ev.CheckpointReady) and moment.event.durable:
            proved.add(moment.event.id)
        assert moment.after.saves.durable in {None, *proved}


def test_every_event_has_its_row_or_only_moves_the_time():
    kinds = set(ev.Event.__args__)
    assert kinds - set(TABLE) == {ev.Woke, ev.MemorySeen}
    assert all(phases and not phases & FINAL for phases, _ in TABLE.values())


@pytest.mark.parametrize("waits", [1.0, TICK_S, 29.9])
def test_a_late_wake_up_is_no_gap(waits):
    told = running()
    at = next_wakeup(told.session)
    told(ev.Woke(), after_s=at - told.now.mono_s + waits - 1.0)
    assert not told.session.frozen


@LIVES
@given(SEEDS)
def test_a_world_without_faults_brings_every_session_to_its_end_or_keeps_it_running(seed):
    *_, last = life(seed, Config(lifetime=Lifetime(3600.0, hard=True)), moments=600)
    assert last.after.phase in FINAL or last.now.mono_s < 1000 + 3600 + 1300
