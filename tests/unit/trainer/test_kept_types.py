"""Containers and values of the standard library keep their type, and a checkpoint's words never choose a class."""

import collections
import enum
import fractions
import json
import pathlib
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from supervisor.core.errors import UserError
from supervisor.trainer import tree
from supervisor.trainer.compare import differing
from supervisor.trainer.folder import open_folder, read
from supervisor.trainer.frameworks.plain import Plain
from supervisor.trainer.state import State
from supervisor.trainer.tree import Capture, differences


class Transition(typing.NamedTuple):
    state: list
    reward: float


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


VALUES = [
    Counter({30: 1, 80: 2}),
    Counter(),
    defaultdict(list, {"a": [1], 2: []}),
    defaultdict(float, a=0.5),
    defaultdict(None, a=1),
    defaultdict(Counter, a=Counter("aab")),
    OrderedDict(b=1, a=2),
    deque([1, (2.0, "x")], maxlen=5),
    deque(),
    {1, 2.5, "x", (1, 2)},
    frozenset({b"k"}),
    {"nested": [deque([{1}]), defaultdict(set, a={2})]},
    range(0, 10, 3),
    slice(None, 5),
    Decimal("1.10"),
    Decimal("NaN"),
    fractions.Fraction(1, 3),
    timedelta(days=-1, microseconds=7),
    date(2026, 11, 30),
    datetime(2026, 11, 30, 1, 2, 3, 4, tzinfo=UTC),
    datetime(2026, 11, 30),  # noqa: DTZ001  # as scripts have them
    pathlib.PurePosixPath("a/b"),
    pathlib.Path("/c"),
    complex(-0.0, 1),
]
IDS = [f"{number}-{type(value).__name__}" for number, value in enumerate(VALUES)]  # a set's repr differs by process


def shown(value):
    """A form that is equal only for equal values of the same types."""
    beside = getattr(value, "maxlen", None), getattr(value, "default_factory", None)
    if isinstance(value, dict):
        return type(value), beside, [(shown(key), shown(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, map(shown, value)))
    if isinstance(value, list | tuple | deque):
        return type(value), beside, [shown(item) for item in value]
    return type(value), repr(value)


@pytest.mark.parametrize("value", VALUES, ids=IDS)
def test_a_value_keeps_its_type_through_a_checkpoint(round_trip, value):
    back = round_trip([value])[0]
    assert shown(back) == shown(value)


@pytest.mark.parametrize("value", VALUES, ids=IDS)
def test_it_differs_from_no_copy_of_itself_and_from_another(value):
    node = Capture([Plain()]).node(value, "it")
    assert differences(node, json.loads(json.dumps(node)), "it") == []
    assert differences(node, Capture([Plain()]).node(["other"], "it"), "it") != []


def test_what_a_container_has_beside_its_items_is_compared():
    one, other = (Capture([Plain()]).node(deque([1], size), "it") for size in (3, 4))
    assert differences(one, other, "it") == ["it"]
    one, other = (Capture([Plain()]).node(defaultdict(kind, a=1), "it") for kind in (int, float))
    assert differences(one, other, "it") == ["it"]


def test_equal_sets_do_not_differ_whatever_their_order(stage, holder):
    forward, backward = {0, 8}, set()
    backward |= {8}
    backward |= {0}
    one = stage(name="step-000000005-1", thing=holder([forward]))
    other = stage(name="step-000000005-2", thing=holder([backward]))
    assert differing(open_folder(one), open_folder(other)) == []


@pytest.mark.parametrize("fresh", [[Transition([], 0.0)], deque([Transition([9], 1.0)])])
def test_a_namedtuple_is_of_the_class_that_the_fresh_object_holds(stage, holder, fresh):
    path = stage(thing=holder(deque([Transition([1], 0.5), Transition([2], 1.5)])))
    thing = holder(fresh)
    State({"thing": thing}).restore(open_folder(path))
    assert list(thing.state) == [([1], 0.5), ([2], 1.5)]
    assert [type(each) for each in thing.state] == [Transition, Transition]


def test_without_one_it_is_a_plain_namedtuple_of_the_same_name_and_fields(stage, holder):
    path = stage(thing=holder([Transition([1], 0.5)]))
    thing = holder([])
    assert State({"thing": thing}).restore(open_folder(path)) == []
    (back,) = thing.state
    assert type(back) is not Transition
    assert (type(back).__name__, back._fields, back.reward) == ("Transition", ("state", "reward"), 0.5)
    again = stage(name="step-000000005-2", thing=holder([back]))
    assert differing(open_folder(path), open_folder(again)) == []


def test_a_namedtuple_of_other_fields_lends_its_class_to_nobody(stage, holder):
    path = stage(thing=holder([Transition([1], 0.5)]))
    other = collections.namedtuple("Transition", ["state", "reward", "done"])  # noqa: PYI024  # as older scripts have them
    thing = holder([other(1, 2, 3)])
    State({"thing": thing}).restore(open_folder(path))
    assert thing.state[0]._fields == ("state", "reward")
    assert not isinstance(thing.state[0], other)


def test_an_enums_member_comes_back_where_the_fresh_object_has_the_class(stage, holder):
    path = stage(thing=holder([Colour.BLUE, Level.LOW]))
    thing = holder([Colour.RED, Level.LOW])
    assert State({"thing": thing}).restore(open_folder(path)) == []
    assert thing.state == [Colour.BLUE, Level.LOW]
    assert type(thing.state[1]) is Level
    bare = holder([])
    (words,) = State({"thing": bare}).restore(open_folder(path))
    assert bare.state == ["b", 1]
    assert "did not restore thing.0" in words


def test_names_that_no_class_may_have_make_a_tuple():
    node = {"!": "namedtuple", "name": "x", "fields": ["a; import os"], "items": [1]}
    assert type(tree.rebuild(node, pytest.fail)) is tuple
    with pytest.raises(UserError, match="of a kind not known here: os"):
        tree.rebuild({"!": "os", "text": "x"}, pytest.fail)


def test_a_deque_of_transitions_with_arrays_is_followed_from_save_to_save(holder):
    replay = deque((Transition(bytearray([n]), float(n)) for n in range(3)), maxlen=3)
    state = State({"replay": holder(replay)})
    first = state.captured()
    assert [bytes(value) for value in first.values] == [b"\0", b"\1", b"\2"]
    replay.append(Transition(bytearray([7]), 7.0))
    second = state.captured()
    assert second.structure == first.structure
    assert [bytes(value) for value in second.values] == [b"\1", b"\2", b"\7"]
    assert json.loads(second.text())["replay"]["items"][2]["items"][1] == 7.0
    replay.pop()
    assert state.captured().structure != first.structure


def test_containers_that_change_between_two_saves_are_seen(holder):
    counts, owed = Counter(a=1), defaultdict(int, a=1)
    state = State({"thing": holder([counts, owed])})
    state.captured().text()
    counts["a"] += 1
    owed["a"] = 5
    counter, default = json.loads(state.captured().text())["thing"]
    assert (counter["items"], default["items"]) == ([["a", 2]], [["a", 5]])
    owed.default_factory = list
    assert json.loads(state.captured().text())["thing"][1]["factory"] == "list"


@pytest.mark.torch
@pytest.mark.slow
def test_multi_step_schedules_are_kept_also_inside_others(stage):
    torch = pytest.importorskip("torch")
    from torch.optim import lr_scheduler

    def made():
        optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True)], 1.0)
        multi = lr_scheduler.MultiStepLR(optimizer, [3, 3, 7])
        return optimizer, multi

    optimizer, scheduler = made()
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    path = stage(scheduler=scheduler)
    fresh = made()[1]
    assert State({"scheduler": fresh}).restore(open_folder(path)) == []
    assert (fresh.milestones, type(fresh.milestones)) == (Counter({3: 2, 7: 1}), Counter)
    optimizer, multi = made()
    outer = lr_scheduler.SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer), multi], [2])
    path = stage(name="step-000000005-2", scheduler=outer)
    optimizer, multi = made()
    inner = lr_scheduler.SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer), multi], [2])
    assert State({"scheduler": inner}).restore(open_folder(path)) == []


@pytest.mark.torch
@pytest.mark.slow
def test_a_tensor_with_a_history_is_kept_by_value(stage, holder):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(3))
    path = stage(ema=holder({"collected": [weight.clone(), weight * 2]}))
    first, second = read(path)["ema"]["collected"]
    assert (first.tolist(), second.tolist()) == ([1, 1, 1], [2, 2, 2])
    assert not first.requires_grad
    thing = holder({"collected": [weight.clone(), weight * 5]})
    assert State({"ema": thing}).restore(open_folder(path)) == []
    state = State({"ema": thing})
    first = state.captured()
    thing.state["collected"][0] = weight.clone()
    assert state.captured().structure == first.structure  # a clone made anew is the same place
