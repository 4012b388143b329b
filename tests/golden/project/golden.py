"""A small run: a part that never changes, and a loss that is no number once, so that the run goes back."""

from __future__ import annotations

import argparse
import math
from array import array

import supervisor
from supervisor.trainer import stillness
from supervisor.trainer.order import Order

stillness.LEAF_BYTES_MIN = 1_000  # so that a small frozen part is shared, as a large one is


class Model:
    """Weights that are trained, and a frozen part."""

    def __init__(self) -> None:
        self.weights, self.frozen = array("d", [0.0] * 8), array("d", [0.5] * 512)

    def state_dict(self) -> dict:
        return {"weights": self.weights, "frozen": self.frozen}

    def load_state_dict(self, state: dict) -> None:
        self.weights, self.frozen = state["weights"], state["frozen"]


def main() -> None:
    """Train for the steps still to do; a batch at step 25 is bad."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-after", type=int, default=-1)
    options = parser.parse_args()
    model, order = Model(), Order(length=50, seed=2)
    run = supervisor.attach(model=model, data=order)
    for step in run.steps(40, epoch_steps=10):
        if step and step % 5 == 0:
            run.flush()  # so that there is a checkpoint of every fifth step, however fast this goes
        sample = next(order)
        model.weights[sample % 8] += 0.01 * sample * (math.nan if step == 25 else 1.0)
        run.log(loss=1.0 + sum(model.weights), first=sample)
        if step == options.stop_after:
            raise SystemExit("told to stop here")


if __name__ == "__main__":
    main()
