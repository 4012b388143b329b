"""A small run whose large values a build of version 0.1 packed."""

from __future__ import annotations

from array import array

import supervisor


class Model:
    """Weights that hardly differ from each other."""

    def __init__(self) -> None:
        self.weights = array("d", [0.5] * 512)

    def state_dict(self) -> dict:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.weights = state["weights"]


def main() -> None:
    """Train 15 steps, with a checkpoint of each fifth step."""
    model = Model()
    run = supervisor.attach(model=model)
    for step in run.steps(15):
        if step and step % 5 == 0:
            run.flush()
        model.weights[step] += 0.01 * step
        run.log(loss=sum(model.weights))


if __name__ == "__main__":
    main()
