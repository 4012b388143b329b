"""State as JAX's libraries have it goes on in a fresh process: as it is, without taking it apart in the script."""

import dataclasses
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import supervisor
from supervisor.trainer.refused import RefusedError
from tests.frameworks.resuming import Attempts

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax = pytest.importorskip("jax", reason="needs JAX: pip install jax")
pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
STEPS, STOP = 9, 4


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


class Box:
    """How a script gives a tree to attach(): nothing but these two methods."""

    def __init__(self, **held):
        self.held = held

    def state_dict(self):
        return dict(self.held)

    def load_state_dict(self, state):
        self.held = dict(state)


def bits(*trees):
    leaves = [leaf for tree in trees for leaf in jax.tree.leaves(tree) if not callable(leaf)]
    keys = [hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    raw = [jax.random.key_data(leaf) if is_key else leaf for leaf, is_key in zip(leaves, keys, strict=True)]
    return [np.asarray(each).tobytes().hex() for each in raw]


def goes_on(attempts, make, step, seen):
    """Hold a run that was ended and gone on with against a whole one; ``make`` begins with another seed each time."""
    seeds = iter((1, 1, 2))

    def run():
        attached = make(next(seeds))
        going = supervisor.attach(**attached)
        for _ in going.steps(STEPS):
            step(attached)
        return seen(attached)

    whole = attempts.attempt(run, "whole")
    attempts.attempt(run, "stopped", STOP)
    assert attempts.attempt(run, "stopped") == whole
    assert attempts.differences("whole", "stopped") == []
    assert [words for words in attempts.said if "resumed after" not in words] == []


class Moments(NamedTuple):
    count: Any
    mean: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Training:
    params: Any
    moments: Moments
    update: Any = dataclasses.field(metadata={"static": True})


class Registered:
    """A class that its library has told JAX how to take apart; what is no array is among its leaves."""

    def __init__(self, weight, function):
        self.weight, self.function = weight, function


jax.tree_util.register_pytree_node(
    Registered, lambda it: ((it.weight, it.function), None), lambda _, of: Registered(*of)
)


def test_dataclasses_namedtuples_and_registered_classes_go_on_as_they_are(attempts):
    def make(seed):
        weight = jax.random.normal(jax.random.key(seed), (3,))
        training = Training({"w": weight}, Moments(0, [weight * 0]), jax.numpy.tanh)
        layers = [Registered(weight, jax.numpy.sin), {"deep": (Registered(weight + 1, jax.numpy.cos),)}]
        return {"state": Box(training=training, key=jax.random.key(seed), layers=layers, rows=OrderedDict(a=[1]))}

    def step(attached):
        held = attached["state"].held
        held["key"], drawn = jax.random.split(held["key"])
        before = held["training"]
        mean = 0.9 * before.moments.mean[0] + jax.random.normal(drawn, (3,))
        params = {"w": before.params["w"] - 0.1 * before.update(mean)}
        held["training"] = Training(params, Moments(before.moments.count + 1, [mean]), before.update)
        first, rest = held["layers"]
        deep = Registered(rest["deep"][0].function(rest["deep"][0].weight), rest["deep"][0].function)
        held["layers"] = [Registered(first.function(first.weight) + mean, first.function), {"deep": (deep,)}]
        held["rows"]["a"].append(len(held["rows"]["a"]))

    def seen(attached):
        held = attached["state"].held
        kinds = [type(each).__name__ for each in (held["training"], held["training"].moments, held["rows"])]
        return [*kinds, *bits(held["training"], held["layers"], held["key"]), held["rows"]["a"]]

    goes_on(attempts, make, step, seen)


def test_optax_states_go_on_as_they_are(attempts):
    optax = pytest.importorskip("optax", reason="needs optax: pip install optax")
    moves = optax.chain(optax.clip(1.0), optax.MultiSteps(optax.adamw(1e-2), 2))

    def make(seed):
        params = {"w": jax.random.normal(jax.random.key(seed), (3, 2))}
        return {"state": Box(params=params, opt=moves.init(params))}

    def step(attached):
        held = attached["state"].held
        gradient = jax.tree.map(lambda each: each * 2, held["params"])
        updates, held["opt"] = moves.update(gradient, held["opt"], held["params"])
        held["params"] = optax.apply_updates(held["params"], updates)

    goes_on(attempts, make, step, lambda attached: bits(attached["state"].held))


def test_a_train_state_of_flax_goes_on_as_it_is(attempts):
    linen = pytest.importorskip("flax.linen", reason="needs flax: pip install flax")
    optax = pytest.importorskip("optax", reason="needs optax: pip install optax")
    from flax.training.train_state import TrainState

    layer, x = linen.Dense(2), jax.numpy.ones((1, 3))

    def make(seed):
        params = layer.init(jax.random.key(seed), x)
        return {"state": Box(train=TrainState.create(apply_fn=layer.apply, params=params, tx=optax.adam(1e-2)))}

    def step(attached):
        train = attached["state"].held["train"]
        gradient = jax.grad(lambda params: (train.apply_fn(params, x) ** 2).sum())(train.params)
        attached["state"].held["train"] = train.apply_gradients(grads=gradient)

    goes_on(attempts, make, step, lambda attached: bits(attached["state"].held))


def test_modules_and_optimizers_of_nnx_are_attached_as_they_are(attempts):
    nnx = pytest.importorskip("flax.nnx", reason="needs flax: pip install flax")
    optax = pytest.importorskip("optax", reason="needs optax: pip install optax")

    def make(seed):
        rngs = nnx.Rngs(seed)
        layers = [nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)]
        model = nnx.Sequential(*layers, nnx.Linear(4, 1, rngs=rngs))
        return {"model": model, "optimizer": nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)}

    def step(attached):
        x = jax.numpy.arange(6.0).reshape(2, 3)
        gradient = nnx.grad(lambda model: (model(x) ** 2).sum())(attached["model"])
        attached["optimizer"].update(attached["model"], gradient)

    goes_on(attempts, make, step, lambda attached: bits(*map(nnx.state, attached.values())))


def test_modules_of_equinox_go_on_as_they_are(attempts):
    eqx = pytest.importorskip("equinox", reason="needs equinox: pip install equinox")

    def make(seed):
        return {"state": Box(model=eqx.nn.MLP(3, 2, 8, 2, key=jax.random.key(seed)))}

    def step(attached):
        model = attached["state"].held["model"]
        gradient = eqx.filter_grad(lambda each: (each(jax.numpy.ones(3)) ** 2).sum())(model)
        attached["state"].held["model"] = eqx.apply_updates(model, jax.tree.map(lambda each: -0.01 * each, gradient))

    goes_on(attempts, make, step, lambda attached: bits(attached["state"].held))


def test_a_tree_that_cannot_be_changed_in_place_is_refused_with_the_line_that_works(attempts):
    tree = Training({"w": jax.numpy.ones(2)}, Moments(0, []), max)
    with pytest.raises(RefusedError, match="Training: a pytree cannot be put back in place") as refused:
        attempts.attempt(lambda: supervisor.attach(state=tree), "run")
    assert "jax.tree.leaves" in refused.value.hint


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda tree: None, "training is a tree in it, and nothing here"),
        (lambda tree: dataclasses.replace(tree, params={"v": 1}), "it holds .params['w'], unlike the tree here"),
        (lambda tree: dataclasses.replace(tree, params={**tree.params, "v": 1}), "it does not hold .params['v']"),
    ],
    ids=["nothing", "another", "more"],
)
def test_a_tree_that_is_another_one_in_the_fresh_process_is_named(attempts, other, words):
    tree = Training({"w": jax.numpy.ones(2)}, Moments(0, []), max)

    def run(held):
        for _ in supervisor.attach(state=Box(training=held)).steps(STEPS):
            pass

    attempts.attempt(lambda: run(tree), "run", STOP)
    with pytest.raises(RefusedError) as refused:
        attempts.attempt(lambda: run(other(tree)), "run")
    assert words in str(refused.value)
