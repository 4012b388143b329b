"""Every event and command goes into a journal line and comes back the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.codec import UnknownRecord, from_line, to_line
from tests.unit.core.draws import COMMANDS, EVENTS

AT = {"mono_s": 1.5, "wall_s": 7.25}


@given(st.one_of(EVENTS, COMMANDS))
def test_a_record_reads_back_as_it_was(record):
    line = to_line(AT, record)
    assert "\n" not in line
    at, read = from_line(line)
    assert at == AT
    assert repr(read) == repr(record)
    assert to_line(at, read) == line


def test_every_kind_of_event_and_command_is_known():
    for kind in (*ev.Event.__args__, *do.Command.__args__):
        try:
            assert from_line(json.dumps({**AT, "is": kind.__name__}))[1] == kind()
        except UnknownRecord as error:
            assert "lacks" in str(error), "known, only its fields are not there"  # noqa: PT017, because either is right


@given(
    st.one_of(
        st.text(max_size=40), st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists).map(json.dumps)
    )
)
def test_what_is_no_record_is_unknown_and_nothing_worse(line):
    with pytest.raises(UnknownRecord):
        from_line(line)


def test_a_record_of_a_newer_version_is_unknown_and_its_new_fields_are_left_out():
    with pytest.raises(UnknownRecord):
        from_line(json.dumps({**AT, "is": "Teleported"}))
    line = json.loads(to_line(AT, ev.Launched(7)))
    assert from_line(json.dumps({**line, "mood": "good"}))[1] == ev.Launched(7)


def test_a_name_that_is_no_text_can_still_be_written_down():
    line = to_line(AT, ev.FenceSeen(("odd-\udcff",)))
    assert line.encode()
    assert from_line(line)[1] == ev.FenceSeen(("odd-?",))
