"""What is the same in every row: the data, the size of the model, the pace of a step, and the ledger that is kept of them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

EPOCH_STEPS = int(os.environ.get("LIVES_EPOCH_STEPS", "40"))
BATCH = 16
FEATURES, WIDTH, DEPTH, CLASSES = 256, 512, 640, 16
PARAMETERS = (FEATURES + 1) * WIDTH + (WIDTH + 1) * DEPTH + (DEPTH + 1) * CLASSES
STATE_BYTES = 3 * 4 * PARAMETERS  # Adam keeps two numbers beside each
RATE = 1e-4
SEED = 7


class Job(NamedTuple):
    """What a script is told: where checkpoints go, where the ledger lies, how many steps, seconds a step, steps a save.

    ``skip``: how many of the newest checkpoints a person has taken out of the way, because starting from them failed.
    """

    store: Path
    ledger: Path
    steps: int
    step_s: float
    every: int
    skip: int


def told() -> Job:
    """Read the command line of a row's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, default=Path())
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--step-s", type=float, required=True)
    parser.add_argument("--every", type=int, default=EPOCH_STEPS)
    parser.add_argument("--skip", type=int, default=0)
    return Job(**vars(parser.parse_args()))


class Ledger:
    """A line a step, outside the drive: the step's index, its loss to the last bit, when its work began and ended.

    A step takes ``step_s``, as with an accelerator that the script waits for: what it computes sooner is waited out.
    """

    def __init__(self, job: Job) -> None:
        self._step_s = job.step_s
        self._file = os.open(job.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._began_s = time.perf_counter()

    def begin(self) -> None:
        """Begin a step."""
        self._began_s = time.perf_counter()

    def end(self, step: int, loss: float) -> None:
        """End it."""
        left_s = self._began_s + self._step_s - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)  # because this is the work that an accelerator would do
        line = f"{step} {float(loss).hex()} {self._began_s:.6f} {time.perf_counter():.6f}\n"
        os.write(self._file, line.encode())
