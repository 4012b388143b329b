"""Every record that a journal holds has a row in the table of wire names, and no two of one journal share a name."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from supervisor.core.fleet import messages as fleet_messages
from supervisor.core.session import commands, events
from supervisor.core.wire import journal_codec, messages, names

SESSION = {*get_args(events.Event), *get_args(commands.Command), *messages.KINDS.values(), messages.Malformed}
FLEET = {*get_args(fleet_messages.Event), *get_args(fleet_messages.Command)}


@pytest.mark.parametrize("kinds", [SESSION, FLEET], ids=["session", "fleet"])
def test_each_class_has_a_row_and_a_name_of_its_own(kinds):
    assert {kind.__name__ for kind in kinds} <= names.CLASSES.keys()
    assert max(Counter(names.of(kind) for kind in kinds).values()) == 1


def test_no_row_is_left_of_a_class_that_is_gone():
    values = {*journal_codec._TYPES.values(), *fleet_messages.TYPES.values()}
    assert names.CLASSES.keys() == {kind.__name__ for kind in SESSION | FLEET | values}


def test_the_name_of_a_call_is_the_wire_name_of_its_class():
    calls = {names.of(kind) for kind in get_args(fleet_messages.Call)}
    assert calls == set(fleet_messages.CallName)
