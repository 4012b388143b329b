"""The acknowledged list: folded in order, read in any slices, and a torn line tells nothing."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.relayed import Acknowledged, arrived, line

LINES = [
    arrived(1, [("a", 0), ("b", 0)]),
    {"held": ["a"], "refused": {"c": "another is there"}, "wanted": []},
    arrived(2, [("b", 10)]),
    {"held": ["b", "c"]},
    {"wanted": ["a"]},
]
BODY = b"".join(map(line, LINES))


def test_it_says_what_is_held_what_is_refused_and_what_arrived():
    told = Acknowledged()
    told.read(b"".join(map(line, LINES[:3])))
    assert told.held == {"a"}
    assert told.refused == {"c": "another is there"}
    assert told.pieces == {"b": {0, 10}}
    assert told.parcels == {1, 2}
    told.read(b"".join(map(line, LINES[3:])))
    assert (told.held, told.refused, told.pieces) == ({"b", "c"}, {}, {})


@given(st.lists(st.integers(0, len(BODY))))
def test_it_can_be_read_in_any_slices(cuts):
    told, whole = Acknowledged(), Acknowledged()
    ends = [0, *sorted(cuts), len(BODY)]
    for begin, end in pairwise(ends):
        told.read(BODY[begin:end])
    whole.read(BODY)
    assert told == whole


def test_half_a_line_of_a_writer_that_was_killed_is_passed_over():
    told = Acknowledged()
    told.read(line({"held": ["a"]}) + line({"held": ["b"]})[:-5] + b"\n" + line({"held": ["c"]}))
    assert told.held == {"a", "c"}
    told.read(b'[]\n"x"\n\xff\n')
    assert told.held == {"a", "c"}


def test_a_piece_that_comes_late_of_a_file_that_is_held_changes_nothing():
    told = Acknowledged()
    told.take({"held": ["a"]})
    told.take(arrived(3, [("a", 0)]))
    assert told.pieces == {}
    assert told.parcels == {3}
