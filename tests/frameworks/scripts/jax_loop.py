"""A loop of its own in JAX: a tree of parameters and momentum, and the key that every step splits."""

import argparse
import time

import jax
import jax.numpy as jnp

import supervisor
from supervisor.trainer.order import Order

EPOCH, BATCH = 20, 4


class State:
    """What a step takes and gives; how a script that uses JAX gives it to attach()."""

    def __init__(self) -> None:
        self.key, one, other = jax.random.split(jax.random.key(7), 3)
        self.weights = {"in": jax.random.normal(one, (8, 16)), "out": jax.random.normal(other, (16, 1))}
        self.momentum = jax.tree.map(jnp.zeros_like, self.weights)

    def state_dict(self) -> dict:
        return {"key": self.key, "weights": self.weights, "momentum": self.momentum}

    def load_state_dict(self, state: dict) -> None:
        self.key, self.weights, self.momentum = state["key"], state["weights"], state["momentum"]


@jax.jit
def train(key: jax.Array, weights: dict, momentum: dict, x: jax.Array) -> tuple:
    """One step; return the next key, weights and momentum, and the loss."""
    key, drawn = jax.random.split(key)

    def loss_of(weights: dict) -> jax.Array:
        hidden = jnp.tanh((x + 0.1 * jax.random.normal(drawn, x.shape)) @ weights["in"])
        return jnp.mean((hidden @ weights["out"] - x.sum(axis=1, keepdims=True)) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(weights)
    momentum = jax.tree.map(lambda moved, gradient: 0.9 * moved + gradient, momentum, gradients)
    return key, jax.tree.map(lambda weight, moved: weight - 1e-3 * moved, weights, momentum), momentum, loss


def main() -> None:
    """Train for the steps still to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    options = parser.parse_args()
    rows = jax.random.normal(jax.random.key(1), (EPOCH * BATCH, 8))
    state, order = State(), Order(length=len(rows), seed=3)
    run = supervisor.attach(state=state, data=order)
    for _ in run.steps(options.steps, epoch_steps=EPOCH):
        x = rows[jnp.array([next(order) for _ in range(BATCH)])]
        state.key, state.weights, state.momentum, loss = train(state.key, state.weights, state.momentum, x)
        run.log(loss=loss)
        time.sleep(options.step_ms / 1000)


if __name__ == "__main__":
    main()
