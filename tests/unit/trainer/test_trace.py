"""A state that is followed from save to save is captured as if it were walked for the first time, whatever has changed."""

import array
import gc
import json
import weakref
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from supervisor.trainer import frameworks  # noqa: E402
from supervisor.trainer.layout import plan  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.snapshot import Snapshot  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

DTYPES = ["float32", "float64", "bfloat16", "int64", "bool", "complex64"]
NUMBERS = [0, 1, True, False, 0.0, -0.0, 1.0, float("nan"), float("inf"), 2**70, None, "1", "True", "", 1j, -0.0j]
KEYS = ["a", "b", "c", "!", 0, 1, True, 0.0, -0.0, 1.0, None, (1, 2), (True, 2.0), b"k"]


def tensor(draw):
    shape = draw(st.sampled_from([(), (3,), (2, 3), (3, 2), (0,), (4, 1)]))
    made = torch.ones(shape).to(getattr(torch, draw(st.sampled_from(DTYPES))))
    form = draw(st.integers(0, 5))
    if form == 1 and made.dim() == 2:
        return made.t()
    if form == 2:
        return made.expand(2, *made.shape)
    if form == 3 and made.is_complex():
        return made.conj()
    if form == 4 and made.is_floating_point():
        return torch.nn.Parameter(made, requires_grad=draw(st.booleans()))
    return made


def array_of_numpy(draw):
    return draw(
        st.sampled_from(
            [np.zeros(3), np.zeros((2, 3)).T, np.zeros(3, "f4"), np.zeros(3, ">f8"), np.zeros(6)[::2], np.zeros(0)]
        )
    ).copy(order="K")


@st.composite
def single(draw):
    """A value that is no container, made anew each time it is drawn."""
    makers = [
        lambda: draw(st.sampled_from(NUMBERS)),
        lambda: tensor(draw),
        lambda: array_of_numpy(draw),
        lambda: bytes(draw(st.sampled_from([0, 3, 1024, 1025, 1026]))),
        lambda: bytearray(draw(st.sampled_from([0, 3, 4]))),
        lambda: array.array(draw(st.sampled_from("lqd")), [1, 2]),
        lambda: memoryview(bytearray(b"abcd"))[:: draw(st.sampled_from([1, 1, 2]))],
        lambda: draw(st.sampled_from([np.float32(1), np.float64(1), np.int64(1), torch.Size([2, 3]), torch.float32])),
    ]
    return makers[draw(st.sampled_from([0, 0, 0, 1, 1, 1, *range(2, len(makers))]))]()


def with_metadata(pairs, metadata):
    ordered = OrderedDict(pairs)
    if metadata is not None:
        ordered._metadata = metadata
    return ordered


def containers(children):
    keys = st.sampled_from(KEYS)
    metadata = st.sampled_from([None, {}, {"": {"version": 1}}, {"": {"version": 2}}])
    return st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), children, max_size=4),
        st.dictionaries(keys, children, max_size=4),
        st.builds(with_metadata, st.dictionaries(keys, children, max_size=3), metadata),
        st.builds(tuple, st.lists(children, max_size=3)),
    )


trees = st.recursive(single(), containers, max_leaves=8)


def places(value, found):
    """Collect (holder, key) of everything below a container that can be changed in place."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        if not isinstance(value, tuple):
            found.append((value, key))
        places(item, found)
    return found


def tensors(value):
    if isinstance(value, torch.Tensor | np.ndarray | bytearray | array.array):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [found for item in items for found in tensors(item)]


def replace(draw, holder, key):
    holder[key] = draw(trees)


def renumber(draw, holder, key):
    holder[key] = draw(st.sampled_from(NUMBERS))


def tie(draw, holder, key, states):
    others = tensors(states)
    if others:
        holder[key] = draw(st.sampled_from(others))


def untie(_draw, holder, key):
    if isinstance(holder[key], torch.Tensor):
        holder[key] = holder[key].detach().clone()


def overwrite(_draw, holder, key):
    value = holder[key]
    if isinstance(value, torch.Tensor) and value.is_contiguous() and value.numel():
        with torch.no_grad():
            value.fill_(0)


def grow(draw, holder, _key):
    if isinstance(holder, list):
        holder.append(draw(trees))
    else:
        holder[draw(st.sampled_from(KEYS))] = draw(trees)


def shrink(_draw, holder, key):
    del holder[key]


def reorder(_draw, holder, key):
    if isinstance(holder, dict):
        holder[key] = holder.pop(key)
    else:
        holder.reverse()


def retype(draw, holder, key):
    """Replace a key by one that is equal to it but another value, as 1 and True are."""
    if isinstance(holder, dict):
        pairs = [
            (draw(st.sampled_from([other for other in KEYS if other == old] or [old])), item)
            for old, item in holder.items()
        ]
        holder.clear()
        holder.update(pairs)


def tell_layers(draw, holder, _key):
    if isinstance(holder, OrderedDict):
        holder._metadata = {"": {"version": draw(st.sampled_from([1, 2, 3]))}}


def refuse(draw, holder, key):
    holder[key] = draw(
        st.sampled_from([object(), torch.eye(3).to_sparse(), torch.ones(3, requires_grad=True) * 2, {1, 2}])
    )


CHANGES = [replace, renumber, untie, overwrite, grow, shrink, reorder, retype, tell_layers, refuse]


class Attached:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def form(leaf):
    return leaf.dtype, leaf.shape, leaf.item_bytes, leaf.bytes, leaf.framework.name


def content(leaf, value):
    out = bytearray(leaf.bytes)
    leaf.framework.read(value, 0, memoryview(out))
    return bytes(out)


def outcome(state):
    try:
        return state.captured(), ""
    except RefusedError as error:
        return None, str(error)


class Kept:
    """What the saver keeps from save to save: one snapshot for as long as the structure is said to be the same."""

    def __init__(self):
        self.structure, self.snapshot = 0, None

    def files(self, captured):
        if captured.structure != self.structure:
            self.snapshot = Snapshot(
                plan(captured.leaves, piece_bytes_max=40), captured.leaves, captured.values, self.snapshot
            )
            self.structure = captured.structure
        assert self.snapshot.take(captured.values).wait()
        return {
            piece.name: bytes(self.snapshot.bytes_of(piece)[: piece.bytes]) for piece in self.snapshot.layout.pieces
        }


def assert_as_if_new(followed, attached, kept, *, look_at_text):
    found, refused = outcome(followed)
    fresh, wanted_refusal = outcome(State(attached))
    assert refused == wanted_refusal
    if fresh is None:
        return
    assert json.dumps(found.objects) == json.dumps(fresh.objects)
    if look_at_text:
        assert found.text() == fresh.text() == json.dumps(fresh.objects, separators=(",", ":"))
    assert {name: form(leaf) for name, leaf in found.leaves.items()} == {
        name: form(leaf) for name, leaf in fresh.leaves.items()
    }
    assert list(found.leaves) == list(fresh.leaves)
    assert list(map(content, found.leaves.values(), found.values)) == list(
        map(content, fresh.leaves.values(), fresh.values)
    )
    assert kept.files(found) == Kept().files(fresh)


@given(data=st.data(), roots=st.lists(trees, min_size=1, max_size=2), looks=st.integers(0, 255))
@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
def test_whatever_changes_between_two_saves_the_next_one_has_it(data, roots, looks):
    attached = {f"object{number}": Attached(root) for number, root in enumerate(roots)}
    followed, kept = State(attached), Kept()
    assert_as_if_new(followed, attached, kept, look_at_text=True)
    for round_ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(1, 2))):
            states = {name: each.state for name, each in attached.items()}
            found = places(states, [])
            holder, key = data.draw(st.sampled_from(found))
            change = data.draw(st.sampled_from([*CHANGES, tie]))
            at_root = holder is states
            if at_root and change in {grow, shrink, reorder, retype}:
                continue
            if change is tie:
                tie(data.draw, holder, key, states)
            else:
                change(data.draw, holder, key)
            for name, each in attached.items():
                each.state = states[name]
        assert_as_if_new(followed, attached, kept, look_at_text=bool(looks >> round_ & 1))


def captured_after(before, after):
    """Follow from one state to another; return whether what is captured is what a new look gives."""
    thing = Attached(before)
    followed, kept = State({"thing": thing}), Kept()
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)
    thing.state = after
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)
    return followed, thing, kept


@pytest.mark.parametrize("one", NUMBERS, ids=repr)
@pytest.mark.parametrize("other", NUMBERS, ids=repr)
def test_numbers_that_are_equal_but_not_the_same_are_told_apart(one, other):
    captured_after({"x": one, "t": torch.ones(2)}, {"x": other, "t": torch.ones(2)})
    captured_after([one], [other])
    captured_after(one, other)


@pytest.mark.parametrize("one", KEYS, ids=repr)
@pytest.mark.parametrize("other", KEYS, ids=repr)
def test_keys_that_are_equal_but_not_the_same_are_told_apart(one, other):
    captured_after({one: 5, "t": torch.ones(2)}, {other: 5, "t": torch.ones(2)})


def test_a_state_that_is_none_first_and_a_dict_later_is_written_anew_at_every_change():
    _, thing, kept = captured_after(None, {"a": 1})
    followed = State({"thing": thing})
    thing.state = None
    for state in (None, {"a": 1}, {"a": 2}, {"b": 2}, [3], {"a": 2}):
        thing.state = state
        assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)


def test_a_number_that_changed_before_a_refusal_is_not_forgotten_after_it():
    thing = Attached({"a": {"number": 1, "other": 1}})
    followed, kept = State({"thing": thing}), Kept()
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)
    thing.state = {"a": {"number": 2, "other": object()}}
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)
    thing.state = {"a": {"number": 2, "other": 1}}
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)


def test_a_framework_that_the_script_imports_later_is_known_from_then_on(monkeypatch):
    all_of_them = frameworks.loaded()
    monkeypatch.setattr(frameworks, "loaded", lambda: all_of_them[-1:])
    thing = Attached({"best": None, "count": 1})
    followed, kept = State({"thing": thing}), Kept()
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)
    monkeypatch.setattr(frameworks, "loaded", lambda: all_of_them)
    thing.state = {"best": torch.ones(3), "count": np.int64(2)}
    assert_as_if_new(followed, {"thing": thing}, kept, look_at_text=True)


def test_an_optimizer_that_gets_its_state_with_the_first_step_is_captured_whole():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    attached = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    followed, kept = State(attached), Kept()
    structures = []
    for _ in range(4):
        assert_as_if_new(followed, attached, kept, look_at_text=True)
        structures.append(kept.structure)
        model(torch.randn(5, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    assert structures == [1, 2, 2, 2], "an unchanged structure is not walked again"


@pytest.mark.parametrize("number", [1, 2])
def test_tensors_that_the_script_lets_go_are_not_kept_alive_by_a_save(number):
    thing = Attached({"model": [torch.ones(5), {"deep": torch.ones(6), "count": 1}], "kept": torch.ones(7)})
    followed, kept = State({"thing": thing}), Kept()
    for _ in range(number):
        kept.files(followed.captured())
    gone = [weakref.ref(thing.state["model"][0]), weakref.ref(thing.state["model"][1]["deep"])]
    thing.state = {"kept": thing.state["kept"]}
    gc.collect()
    assert [each() for each in gone] == [None, None]
