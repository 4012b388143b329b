"""What may be attached, what is refused, and what is told when something does not come back."""

import random

import pytest

from supervisor.trainer.folder import open_folder
from supervisor.trainer.order import Order
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.state import State


def test_an_object_without_state_is_refused_by_name():
    with pytest.raises(RefusedError, match=r"^data: a object has no state_dict"):
        State({"data": object()})


def test_a_name_that_the_script_no_longer_attaches_is_refused(stage, holder):
    path = stage(model=holder(1), scheduler=holder(2))
    with pytest.raises(RefusedError, match=r"^scheduler: is in the checkpoint, but this script does not attach it"):
        State({"model": holder()}).restore(open_folder(path))


def test_a_name_that_the_checkpoint_does_not_hold_is_refused(stage, holder):
    path = stage(model=holder(1))
    with pytest.raises(RefusedError, match=r"^scheduler: is attached, but the checkpoint holds only model"):
        State({"model": holder(), "scheduler": holder(2)}).restore(open_folder(path))


def test_a_load_state_dict_that_forgets_something_is_told_by_path(stage, holder):
    class Forgetful(holder):
        def load_state_dict(self, state):
            self.state = {"position": 0, "epoch": state["epoch"]}

    path = stage(data=Forgetful({"position": 7, "epoch": 1}))
    fresh = Forgetful({"position": 0, "epoch": 0})
    (words,) = State({"data": fresh}).restore(open_folder(path))
    assert "did not restore data.position" in words


def test_a_generator_of_python_may_be_attached(stage):
    chance = random.Random(4)
    path = stage(chance=chance)
    wanted = chance.random()
    fresh = random.Random()
    State({"chance": fresh}).restore(open_folder(path))
    assert fresh.random() == wanted


def test_the_global_generator_is_put_back_only_when_the_loop_begins(stage, holder):
    random.seed(3)
    path = stage(model=holder(1))
    wanted = random.random()
    state = State({"model": holder()})
    state.restore(open_folder(path))
    random.seed(77)
    state.put_back_rng()
    assert random.random() == wanted


def test_an_order_goes_on_at_its_position_and_every_epoch_is_another_shuffle():
    order = Order(10, seed=3)
    samples = [next(order) for _ in range(25)]
    assert sorted(samples[:10]) == sorted(samples[10:20]) == list(range(10))
    assert samples[:10] != samples[10:20]
    half = Order(10, seed=3)
    half.load_state_dict({"position": 13, "length": 10, "seed": 3})
    assert [next(half) for _ in range(12)] == samples[13:]
