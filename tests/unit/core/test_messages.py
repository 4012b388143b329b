"""What the trainer and the supervisor say comes out the same however the bytes are cut, and garbage disturbs nobody."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.messages import LINE_BYTES_MAX, Beat, Finished, Malformed, Note, encode, feed
from tests.unit.core.draws import MESSAGES

LINES = st.one_of(MESSAGES.map(encode), st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"") + b"\n"))
ROOMY = settings(deadline=None)


@ROOMY
@given(st.lists(LINES, max_size=8), st.lists(st.integers(0, 600), max_size=12))
def test_the_messages_are_the_same_however_the_bytes_are_cut(lines, cuts):
    stream = b"".join(lines)
    _, whole = feed(b"", stream)
    rest, pieces, at = b"", [], 0
    for cut in [*sorted(cuts), len(stream)]:
        rest, more = feed(rest, stream[at:cut])
        pieces += more
        at = max(at, cut)
    assert repr(pieces) == repr(whole)
    assert rest == b""


@given(st.lists(MESSAGES, max_size=5))
def test_every_message_comes_back_as_it_was(said):
    rest, heard = feed(b"", b"".join(map(encode, said)))
    assert rest == b""
    assert repr(heard) == repr(said)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_feed_never_raises_and_forgets_nothing_of_an_unfinished_line(buffer, received):
    rest, heard = feed(buffer, received)
    assert rest == (buffer + received).rpartition(b"\n")[2]
    assert all(heard)


@pytest.mark.parametrize(
    "line",
    [
        b"print('hello')",
        b"{}",
        b"[]",
        b"7",
        b'{"t":"no such kind"}',
        b'{"t":7}',
        b'{"t":"beat"}',
        b'{"t":"beat","step":"7","section":"step"}',
        b'{"t":"beat","step":true,"section":"step"}',
        b'{"t":"beat","step":7,"section":"step","metrics":[1]}',
        b'{"t":"beat","step":7,"section":"step","metrics":{"x":[1]}}',
        b'{"t":"finished","step":1.5}',
        b"\xff\xfe",
        b'{"a":' * 5000,
        b'{"t":"note","level":"info","text":"' + b"x" * LINE_BYTES_MAX + b'"}',
    ],
)
def test_garbage_is_malformed(line):
    _, heard = feed(b"", line + b"\n")
    assert len(heard) == 1
    assert isinstance(heard[0], Malformed)


def test_fields_of_a_newer_version_are_left_out():
    _, heard = feed(b"", b'{"t":"finished","step":7,"mood":"good"}\n')
    assert heard == [Finished(7)]


def test_a_flood_without_an_end_costs_no_memory_and_is_one_malformed_line():
    rest = b""
    for _ in range(50):
        rest, heard = feed(rest, b"x" * 65536)
        assert heard == []
        assert len(rest) <= LINE_BYTES_MAX + 1
    rest, heard = feed(rest, b"\n" + encode(Finished(3)))
    assert [type(each) for each in heard] == [Malformed, Finished]


@given(st.text(min_size=0, max_size=200_000))
@settings(max_examples=5, deadline=None)
def test_a_line_is_never_longer_than_a_reader_takes(text):
    assert len(encode(Note("info", text * 3))) <= LINE_BYTES_MAX


def test_metrics_that_are_too_many_are_left_out_but_the_beat_is_not():
    line = encode(Beat(7, "step", metrics={f"metric {n}": n for n in range(9000)}))
    assert feed(b"", line)[1] == [Beat(7, "step")]


def test_sections_that_are_too_many_do_not_make_a_line_too_long():
    line = encode(Beat(7, "step", seconds={f"a section {n}": 1.0 for n in range(9000)}))
    assert len(line) <= LINE_BYTES_MAX


def test_infinities_and_nan_pass():
    _, [beat] = feed(b"", encode(Beat(1, "step", metrics={"loss": math.nan, "best": math.inf})))
    assert math.isnan(beat.metrics["loss"])
    assert beat.metrics["best"] == math.inf


def test_a_surrogate_in_a_text_does_not_stop_a_message():
    assert feed(b"", encode(Note("info", "\udcff")))[1]


def test_a_message_is_one_line_of_json():
    assert json.loads(encode(Note("info", "two\nlines"))) == {
        "t": "note", "level": "info", "text": "two\nlines", "hint": "",
    }  # fmt: skip
