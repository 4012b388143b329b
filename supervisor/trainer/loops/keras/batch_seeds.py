"""Seeds for random draws of a data set: one seed for each batch, because batches are read ahead.

No checkpoint holds what a reader has drawn ahead. So if the first batch draws, each batch is read with generators that (seed,
pass, batch) determine. The generators get their previous states back afterwards.
"""

from __future__ import annotations

import pickle
import random
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context

if TYPE_CHECKING:
    from collections.abc import Callable

_read_lock = threading.Lock()


class Generator(NamedTuple):
    """The functions that get, set and seed one generator."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    seed: Callable[[int], Any]


class SeededBatches:
    """Reads batches of ``inner``, a PyDataset. Threads that read at once share the generators; a warning says so."""

    def __init__(self, inner: Any, *seeds: int) -> None:
        self._inner, self._seeds = inner, seeds
        self._draws: bool | None = None
        self._threads = inner.workers > 1 and not inner.use_multiprocessing
        self._processes = bool(inner.use_multiprocessing)

    def __getitem__(self, index: int) -> Any:
        if self._draws is False:
            return self._inner[index]
        with nullcontext() if self._processes else _read_lock:
            return self._read(index)

    def _read(self, index: int) -> Any:
        generators = _generators(self._inner)
        before = [each.get() for each in generators]
        if self._draws is None:
            batch = self._inner[index]
            drawn = [_bytes(each.get()) != _bytes(state) for each, state in zip(generators, before, strict=True)]
            self._draws = any(drawn) and not self._threads
            if any(drawn) and self._threads:
                self._warn_of_threads()
            if not self._draws:
                return batch
        try:
            for number, each in enumerate(generators):
                each.seed(int(np.random.SeedSequence([*self._seeds, index, number]).generate_state(1)[0]))
            return self._inner[index]
        finally:
            for each, state in zip(generators, before, strict=True):
                each.set(state)

    def _warn_of_threads(self) -> None:
        name = type(self._inner).__name__
        message = (
            f"{name}.__getitem__() draws by chance in {self._inner.workers} threads at once: what it draws differs from run to "
            "run, and after a resume; use_multiprocessing=True or workers=1 makes it exact"
        )
        trainer_context.current().send(TrainerNote("warning", message))


def _bytes(state: Any) -> bytes:
    """Return a generator's state for a comparison, because torch pickles equal tensors to different bytes."""
    return bytes(state.numpy().tobytes()) if hasattr(state, "numpy") else pickle.dumps(state)


def _generators(inner: Any) -> list[Generator]:
    """Return the shared generators of Python, NumPy and torch, and those that the data set holds."""
    legacy: Any = np.random.mtrand._rand  # noqa: SLF001  # the one behind np.random's functions
    found = [
        Generator(random.getstate, random.setstate, random.seed),
        Generator(lambda: legacy.get_state(legacy=False), legacy.set_state, legacy.seed),
    ]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        found.append(Generator(torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed))
    for _, value in sorted(vars(inner).items()):
        if isinstance(value, random.Random):
            found.append(Generator(value.getstate, value.setstate, value.seed))
        elif isinstance(value, np.random.RandomState):
            found.append(Generator(value.get_state, value.set_state, value.seed))
        elif isinstance(value, np.random.Generator):
            found.append(_of_bits(value.bit_generator))
    return found


def _of_bits(bits: Any) -> Generator:
    def put(state: Any) -> None:
        bits.state = state

    return Generator(lambda: bits.state, put, lambda seed: put(type(bits)(seed).state))
