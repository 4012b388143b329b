"""The position in a DataLoader: kept as a count, found again through the indices alone, with chance as it was at that place."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, IterableDataset

from supervisor.core.errors import UsageError
from supervisor.core.messages import Note
from supervisor.trainer import life

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON_RNG_VERSION = 3  # of random.getstate()


class Chance(NamedTuple):
    """The states of the generators that drawing samples and reading data in this process use."""

    python: Any
    numpy: Any
    torch: torch.Tensor

    @classmethod
    def now(cls) -> Chance:
        """Return copies of the present states."""
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002  # the global one is what collators use

    def put_back(self) -> None:
        """Set the generators."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002  # as above
        torch.set_rng_state(self.torch)

    def as_kept(self) -> dict[str, Any]:
        """Return what a checkpoint can hold."""
        _, numbers, gauss = self.python
        name, key, position, has_gauss, cached = self.numpy
        return {
            "python": {"numbers": np.array(numbers, dtype=np.uint32), "gauss": gauss},
            "numpy": {"name": name, "key": key, "position": position, "has_gauss": has_gauss, "cached": cached},
            "torch": self.torch,
        }

    @classmethod
    def of_kept(cls, kept: dict[str, Any]) -> Chance:
        """Return the states that ``as_kept`` has written down."""
        python = (PYTHON_RNG_VERSION, tuple(kept["python"]["numbers"].tolist()), kept["python"]["gauss"])
        return cls(python, tuple(kept["numpy"].values()), kept["torch"])


class Resumption(NamedTuple):
    """Where an epoch goes on: its first ``passed`` batches are not read again.

    ``begun`` is chance as it was when the epoch began, ``reading`` before the first batch that is read again was read,
    ``now`` at the checkpoint, by which time that batch was read already.
    """

    passed: int
    begun: Chance
    reading: Chance
    now: Chance


class Batches(BatchSampler):
    """Stands in a loader for its batch sampler: notes chance before each batch is read, and finds a kept position again.

    Whoever resumes has the loader drop the first ``passed`` batches of indices (``skip_first_batches``): nothing is read for
    them, but the order of the others follows from them.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reading: Chance | None = None  # before the newest batch was read
        self._resumption: Resumption | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def resume(self, resumption: Resumption) -> None:
        """The next epoch to be drawn is this one."""
        self._resumption = resumption

    def __iter__(self) -> Iterator[Any]:
        resumption, self._resumption = self._resumption, None
        for index, batch in enumerate(self.inner):
            first = resumption is not None and index == resumption.passed
            if first and resumption is not None:
                resumption.reading.put_back()
            if resumption is None or index >= resumption.passed:
                self.reading = Chance.now()
            yield batch
            if first and resumption is not None:
                resumption.now.put_back()


class Data:
    """``epoch`` is the one that comes next or is under way, ``batches`` of it are used up."""

    def __init__(self, loader: Any, accumulated: int) -> None:
        self.epoch, self.batches = 0, 0
        self.found: Batches | None = _watched(loader)
        self._loader, self._accumulated = loader, accumulated
        self._begun: Chance | None = None
        self._reading: Chance | None = None  # of the checkpoint

    def begins(self) -> None:
        """The epoch begins, and with the next batch its order is drawn."""
        self.batches = 0
        self._begun = Chance.now()

    def resumes(self, now: Chance) -> None:
        """The epoch goes on behind what is used up; ``now`` is chance as the checkpoint has it."""
        assert self._begun is not None, "a position within an epoch is kept with the epoch's begin"
        self._begun.put_back()
        if self.found is not None:
            self.found.resume(Resumption(self.batches, self._begun, self._reading or now, now))

    def ended(self, next_epoch: int) -> None:
        """The epoch is used up."""
        self.epoch, self.batches = next_epoch, 0

    def warn_of_inexact(self) -> None:
        """Say what of an epoch that goes on cannot be as it would have been."""
        if self.found is None:
            words = "the data are a stream: what was used of this epoch is read once more to find the place"
        elif self._loader.num_workers:
            words = "chance inside the DataLoader's workers cannot be kept: if the dataset draws it, this epoch differs"
        else:
            return
        life.here().say(Note("warning", words))

    def state_dict(self) -> dict[str, Any]:
        """Return the position; within an epoch with what its order and the reading of its batches follow from."""
        sampler = _seed_holder(self._loader)
        kept = {"epoch": self.epoch, "batches": self.batches, "seed": sampler.initial_seed if sampler else None}
        if self.batches == 0 or self._begun is None:
            return kept
        reading = self.found.reading if self.found is not None else None
        return kept | {
            "made_of": self._made_of(),
            "begun": self._begun.as_kept(),
            "reading": (reading or self._begun).as_kept(),
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Go on there; UsageError if that is a position in other data."""
        if kept["batches"] and kept["made_of"] != (made_of := self._made_of()):
            raise UsageError(
                f"the checkpoint is in the middle of an epoch of {kept['made_of']}, these data are {made_of}",
                "use the same data and batch size as when the run began",
            )
        self.epoch, self.batches = kept["epoch"], kept["batches"]
        sampler = _seed_holder(self._loader)
        if sampler is not None and kept["seed"] is not None:
            sampler.initial_seed = kept["seed"]
        if self.batches:
            self._begun, self._reading = Chance.of_kept(kept["begun"]), Chance.of_kept(kept["reading"])

    def _made_of(self) -> str:
        try:
            batches: int | None = len(self._loader)
        except TypeError:
            batches = None  # a stream
        return f"{batches} batches, {self._accumulated} a step"


def _watched(loader: Any) -> Batches | None:
    """Have an Accelerate loader draw through Batches, and return these; None for data that has no indices."""
    base = getattr(loader, "base_dataloader", loader)
    inner = getattr(base, "batch_sampler", None)
    streams = isinstance(base.dataset, IterableDataset)  # torch gives a stream a sampler, too, that says nothing
    if inner is None or streams:
        return None
    if isinstance(inner, Batches):
        return inner
    found = Batches(inner)
    vars(base)["batch_sampler"] = found  # past the loader's guard, which is against another order; this one is the same
    return found


def _seed_holder(loader: Any) -> Any:
    """Return the sampler whose order follows from ``initial_seed``, if the loader has one."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    return sampler if isinstance(getattr(sampler, "initial_seed", None), int) else None
