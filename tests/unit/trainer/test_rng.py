"""Random generators in a checkpoint: which of them training draws from, so that a comparison minds no other."""

import json
import random

import numpy as np
import pytest

from supervisor.trainer import frameworks, rng
from supervisor.trainer.compare import differing_generators
from supervisor.trainer.state import State


def draw_numpy():
    np.random.rand()  # noqa: NPY002  # the global generator is what is kept


def kept(state):
    return json.loads(json.dumps(state.captured().generators.as_kept()))


class Checkpoint:
    """As much of an opened checkpoint as a restore of no objects asks for."""

    def __init__(self, kept):
        self.rng, self.state, self.step = kept, {"objects": {}}, 1

    def load(self, _wanted):
        return {}


@pytest.fixture
def resumed():
    def again(kept):
        state = State({})
        state.restore(Checkpoint(kept))
        assert state.put_back_rng() == []
        return state

    return again


@pytest.fixture
def begun():
    state = State({})
    state.put_back_rng()
    return state


def test_what_is_drawn_from_in_the_loop_is_told_from_what_is_not(begun):
    assert {"plain", "numpy"} <= set(rng.undrawn(kept(begun)))
    draw_numpy()
    assert "numpy" not in rng.undrawn(kept(begun))
    assert "plain" in rng.undrawn(kept(begun))


def test_it_is_known_over_attempts(begun, resumed):
    draw_numpy()
    first = kept(begun)
    random.seed()
    np.random.seed()  # noqa: NPY002  # the next process has others
    state = resumed(first)
    assert rng.of("numpy", kept(state)) == rng.of("numpy", first)
    assert "plain" in rng.undrawn(kept(state))
    assert "numpy" not in rng.undrawn(kept(state))
    random.random()
    second = kept(resumed(kept(state)))
    assert {"plain", "numpy"}.isdisjoint(rng.undrawn(second))


def test_before_a_loop_begins_nothing_is_said():
    assert rng.undrawn(kept(State({}))) == []


def test_of_a_checkpoint_that_does_not_say_all_were_drawn_from(begun, resumed):
    first = kept(begun)
    del first["undrawn"]
    assert rng.undrawn(kept(resumed(first))) == []


def test_one_that_was_not_put_back_is_not_called_untouched(begun, resumed, monkeypatch):
    first = kept(begun)
    plain = next(each for each in frameworks.loaded() if each.name == "plain")
    monkeypatch.setattr(type(plain), "set_rng_state", lambda *_: None)
    random.seed()
    assert "plain" not in rng.undrawn(kept(resumed(first)))


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [(["a"], ["a"], []), (["a"], [], ["rng.a"]), ([], ["a"], ["rng.a"]), ([], [], ["rng.a"])],
)
def test_generators_differ_where_one_run_drew_from_them(ours, theirs, told):
    one, other = (
        {"generators": {"a": number, "b": 0}, "bytes": {}, "undrawn": names}
        for number, names in ((1, ours), (2, theirs))
    )
    assert differing_generators(one, other) == told


def test_bytes_count_for_their_own_generator():
    one, other = (
        {"generators": {"a": 1, "ab": 1}, "bytes": {"a.key": "AA==", "ab.key": key}} for key in ("AA==", "AQ==")
    )
    assert differing_generators(one, other) == ["rng.ab"]
