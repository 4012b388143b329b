"""What a checkpoint folder says of itself is either understood whole or refused in words."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.content import FORMAT, VERSION, Content, ContentError, NewerContent, parse, sealed

GOOD = {
    "format": FORMAT,
    "version": 1,
    "step": 7,
    "files": [{"name": "state.json", "bytes": 3, "digest": "sha256:00"}],
}
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "name", "bytes"]), inner, max_size=4)
    ),
)


def test_the_least_that_is_needed_is_enough():
    assert parse(json.dumps(GOOD).encode()) == Content(7, {"state.json": (3, "sha256:00")})


def test_a_flipped_bit_anywhere_is_noticed():
    body = sealed({"step": 7, "metrics": {"loss": 0.5, "wörter": "x"}, "files": GOOD["files"]})
    assert parse(body).step == 7
    for bit in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContentError):
            parse(bytes(flipped))


def test_what_a_newer_version_wrote_is_told_apart():
    with pytest.raises(NewerContent):
        parse(json.dumps({**GOOD, "version": VERSION + 1}).encode())


def test_digests_that_only_a_newer_version_can_check_are_told_apart_from_damage():
    with pytest.raises(NewerContent, match="xxh9"):
        parse(json.dumps({**GOOD, "files": [{"name": "state.json", "bytes": 3, "digest": "xxh9:00"}]}).encode())


@pytest.mark.parametrize("name", ["../state.json", "a/b", "", ".", ".."])
def test_a_file_outside_the_folder_is_refused(name):
    with pytest.raises(ContentError):
        parse(json.dumps({**GOOD, "files": [{"name": name, "bytes": 3, "digest": "x"}]}).encode())


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_field_is_refused(missing):
    with pytest.raises(ContentError):
        parse(json.dumps({key: value for key, value in GOOD.items() if key != missing}).encode())


@given(st.one_of(st.binary(max_size=60), TREES.map(lambda tree: json.dumps(tree).encode())))
def test_anything_else_is_refused_and_raises_nothing_worse(body):
    with pytest.raises(ContentError):
        parse(body)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), TREES, min_size=1))
def test_a_field_of_another_type_raises_nothing_worse(changes):
    with suppress(ContentError):
        assert isinstance(parse(json.dumps({**GOOD, **changes}).encode()).step, int)
