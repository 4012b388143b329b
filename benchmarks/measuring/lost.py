"""Training time lost per checkpoint in all: the stall, and what a write beside the loop takes from the steps."""

from __future__ import annotations

import math
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_S_MIN = 0.05
BUDGET_S = 0.35  # per pair: short windows are repeated more often, as each is measured less well
PAIRS_MAX = 41
ROOM = 1.6  # how much longer the window is than the write beside it: the write slows the loop and the loop the write
TAIL = 0.02  # share of a window that a write may last beyond it
LONGER_MAX = 3
CALIBRATE_S = 0.2


class Saved(NamedTuple):
    """What an engine does in a loop: ``save`` and, before each update of the weights, ``before_update``.

    ``after`` is called after a window with a save, untimed: it waits for the write, tidies up, and returns how long it waited.
    """

    save: Callable[[], None]
    before_update: Callable[[], None]
    after: Callable[[], float]


class Lost(NamedTuple):
    """Seconds lost per checkpoint for each pair, the loop's own window, and how long a write outlived its window."""

    samples_s: list[float]
    window_s: float
    tail_s: float

    @property
    def median_s(self) -> float:
        """Return the middle of the pairs."""
        return statistics.median(self.samples_s)


def dispatch_loop() -> Callable[[], None]:
    """Return a step of many tiny operations: Python and the dispatcher are what it waits for."""
    tensors = [torch.ones(64) for _ in range(32)]

    def step() -> None:
        for tensor in tensors:
            tensor.mul_(0.999)

    return step


def matmul_loop() -> Callable[[], None]:
    """Return a step of one large product: arithmetic and memory are what it waits for."""
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(768, 768, generator=generator), torch.rand(768, 768, generator=generator)
    product = torch.empty(768, 768)

    def step() -> None:
        torch.mm(left, right, out=product)

    return step


def lost_per_save(step: Callable[[], None], engine: Saved, background_s: float, pairs: int) -> Lost:
    """Run windows of a fixed number of steps, by turns without and with a save; each is compared with its neighbours.

    The windows are made longer until the writes end within them. At least ``pairs`` are run.
    """
    steps = _calibrated(step, max(WINDOW_S_MIN, ROOM * background_s))
    for _ in range(LONGER_MAX):
        window_s = _window(step, steps, engine)
        if engine.after() <= TAIL * window_s:
            break
        steps *= 2
    samples, plain, tails = [], [_window(step, steps)], []
    for _ in range(max(pairs, min(PAIRS_MAX, int(pairs * BUDGET_S / (2 * plain[0]))))):
        with_save = _window(step, steps, engine)
        tails.append(engine.after())
        plain.append(_window(step, steps))
        samples.append(with_save - (plain[-1] + plain[-2]) / 2)
    return Lost(samples, statistics.median(plain), max(tails))


def _window(step: Callable[[], None], steps: int, engine: Saved | None = None) -> float:
    began = perf_counter()
    if engine is not None:
        engine.save()
        step()
        engine.before_update()
        steps -= 1
    for _ in range(steps):
        step()
    return perf_counter() - began


def _calibrated(step: Callable[[], None], window_s: float) -> int:
    began, done = perf_counter(), 0
    while perf_counter() - began < CALIBRATE_S:
        step()
        done += 1
    return max(4, math.ceil(window_s * done / (perf_counter() - began)))
