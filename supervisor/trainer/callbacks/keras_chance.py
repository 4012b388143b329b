"""Chance that a data set draws when a batch is asked for: one seed for each batch, because batches are read ahead.

What a reader has drawn ahead is in no checkpoint. So where the first batch draws, each is read with generators that follow from
(seed, pass, batch), and these are given back as they were found.
"""

from __future__ import annotations

import pickle
import random
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from supervisor.core.messages import Note
from supervisor.trainer import life

if TYPE_CHECKING:
    from collections.abc import Callable

_reading = threading.Lock()


class Generator(NamedTuple):
    """How the state of one generator is got and set, and how it is seeded."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    seed: Callable[[int], Any]


class Seeded:
    """Reads batches of ``inner``, a PyDataset. Several threads that read at once share the generators: that is said."""

    def __init__(self, inner: Any, *seeds: int) -> None:
        self._inner, self._seeds = inner, seeds
        self._draws: bool | None = None
        self._threads = inner.workers > 1 and not inner.use_multiprocessing
        self._processes = bool(inner.use_multiprocessing)

    def __getitem__(self, index: int) -> Any:
        if self._draws is False:
            return self._inner[index]
        with nullcontext() if self._processes else _reading:
            return self._read(index)

    def _read(self, index: int) -> Any:
        generators = _generators(self._inner)
        before = [each.get() for each in generators]
        if self._draws is None:
            batch = self._inner[index]
            drawn = [_bytes(each.get()) != _bytes(state) for each, state in zip(generators, before, strict=True)]
            self._draws = any(drawn) and not self._threads
            if any(drawn) and self._threads:
                self._tell()
            if not self._draws:
                return batch
        try:
            for number, each in enumerate(generators):
                each.seed(int(np.random.SeedSequence([*self._seeds, index, number]).generate_state(1)[0]))
            return self._inner[index]
        finally:
            for each, state in zip(generators, before, strict=True):
                each.set(state)

    def _tell(self) -> None:
        name = type(self._inner).__name__
        words = (
            f"{name}.__getitem__() draws by chance in {self._inner.workers} threads at once: what it draws differs from run to "
            "run, and after a resume; use_multiprocessing=True or workers=1 makes it exact"
        )
        life.here().say(Note("warning", words))


def _bytes(state: Any) -> bytes:
    """Return a generator's state for a comparison: torch pickles equal tensors to different bytes."""
    return bytes(state.numpy().tobytes()) if hasattr(state, "numpy") else pickle.dumps(state)


def _generators(inner: Any) -> list[Generator]:
    """Return the generators of Python, NumPy and torch that all share, and those that the data set holds itself."""
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
