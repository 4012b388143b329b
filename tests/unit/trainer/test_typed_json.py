"""Typed JSON gives back what it was given: equal, of the same types, also through text."""

import json
import math
import struct
from collections import OrderedDict, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.trainer import typed_json
from supervisor.trainer.frameworks.plain import Plain
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.tree import Capture, differences

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.complex_numbers()
    | st.binary(max_size=20)
)
keys = st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.tuples(st.integers(), st.text())
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


def node_of(value):
    return Capture([Plain()]).node(value, "it")


def through_text(value):
    return typed_json.decode(json.loads(json.dumps(node_of(value), allow_nan=False)), pytest.fail)


def bits(value):
    """A form in which only exactly equal values are equal."""
    if isinstance(value, float):
        return "float", struct.pack("d", value)
    if isinstance(value, complex):
        return "complex", struct.pack("dd", value.real, value.imag)
    if isinstance(value, dict):
        return type(value), [(bits(key), bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [bits(item) for item in value]
    return type(value), value


@given(trees)
def test_whatever_goes_in_comes_back_bit_for_bit(value):
    assert bits(through_text(value)) == bits(value)


@given(trees)
def test_a_tree_does_not_differ_from_itself(value):
    assert differences(node_of(value), node_of(value), "it") == []


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        5e-324,
        2**53,
        2**53 + 1,
        -(2**200),
        "\ud800\udc00",
        {"!": 1},
        {"\ud83d": 2},
        {},
        (),
    ],
)
def test_values_that_plain_json_would_change_are_kept(value):
    assert bits(through_text(value)) == bits(value)


def test_the_payload_of_a_nan_is_kept():
    odd = struct.unpack(">d", bytes.fromhex("7ff8000000abcdef"))[0]
    assert struct.pack(">d", through_text(odd)).hex() == "7ff8000000abcdef"


def test_the_versions_that_torch_hangs_on_an_ordered_dict_are_kept():
    state = OrderedDict(a=1)
    state._metadata = OrderedDict({"": {"version": 2}})
    assert through_text(state)._metadata == {"": {"version": 2}}


class Unkeepable:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"lr_lambdas": [lambda step: step]}, "it.lr_lambdas.0: a function cannot be kept in a checkpoint"),
        ({"a": {1, len}}, "it.a.<item>: a function"),
        ({"a": (1, Unkeepable())}, "it.a.1: a value of type"),
        ({"a": defaultdict(lambda: 0)}, "it.a: a defaultdict whose factory is no built-in type"),
        ({"a": defaultdict(Unkeepable)}, "it.a: a defaultdict whose factory is no built-in type"),
        ([Unkeepable], "it.0: a class"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name_with_what_to_do(value, words):
    with pytest.raises(RefusedError) as refused:
        node_of(value)
    assert refused.value.what.startswith(words)
    assert refused.value.hint
    assert refused.value.exit_code == 3


def test_a_state_that_holds_itself_is_refused():
    state = []
    state.append(state)
    with pytest.raises(RefusedError, match="holds itself"):
        node_of(state)


@pytest.mark.parametrize(
    ("kept", "found", "paths"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["it.b"]),
        ({"a": 1}, {"a": True}, ["it.a"]),
        ({"a": 0.0}, {"a": -0.0}, ["it.a"]),
        ({"a": [1]}, {"a": (1,)}, ["it.a"]),
        ({"a": [1, 2]}, {"a": [1]}, ["it.a.1"]),
        ({"a": {1: "x", 2: "y"}}, {"a": {2: "y", 1: "z"}}, ["it.a.1"]),
        ({1: "x", 2: "y"}, {2: "y", 1: "x"}, []),
    ],
)
def test_differences_are_named_by_path_and_the_order_of_keys_is_none(kept, found, paths):
    assert differences(node_of(kept), node_of(found), "it") == paths
