"""A training run without a framework: its end is a function of the seed and the number of steps, whatever happens on the way."""

from __future__ import annotations

import argparse
import random
import sys
import time
from array import array
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # because this file also runs from a checkout in which nothing was installed

import supervisor
from supervisor.trainer.order import Order

SLICE = 64


class Model:
    """Weights and momentum; a step changes one slice of them, so that a large state costs no more than a small one."""

    def __init__(self, numbers: int) -> None:
        self.weights, self.momentum = array("d", bytes(8 * numbers)), array("d", bytes(8 * numbers))

    def state_dict(self) -> dict:
        return {"weights": self.weights, "momentum": self.momentum}

    def load_state_dict(self, state: dict) -> None:
        self.weights, self.momentum = state["weights"], state["momentum"]

    def train(self, sample: int) -> float:
        begin = sample * SLICE % len(self.weights)
        for index in range(begin, min(begin + SLICE, len(self.weights))):
            self.momentum[index] = 0.9 * self.momentum[index] + random.gauss(0.0, 0.1) + 0.01
            self.weights[index] += self.momentum[index]
        return 1.0 / (1.0 + abs(self.weights[begin]))


def main() -> None:
    """Train for the steps still to do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument("--state-mb", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    model = Model(max(SLICE, int(options.state_mb * 1e6 / 16)))
    order = Order(length=1000, seed=options.seed)
    run = supervisor.attach(model=model, data=order)
    for _ in run.steps(options.steps, epoch_steps=len(order)):
        run.log(loss=model.train(next(order)))
        time.sleep(options.step_ms / 1000)
    print(f"toy: {run.step} steps done, first weight {model.weights[0]!r}")


if __name__ == "__main__":
    main()
