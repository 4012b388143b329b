"""What each training step sees: a pure function of (seed, step), so that a resumed run goes on with the very next plate."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperlpr_example.alphabet import encode
from hyperlpr_example.augment import augmented

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LONGEST = 8
_ORDER, _LOOK = 1, 2  # keys that keep the draws for the order and for the looks of pictures apart


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures (B, 3, 160, 40), BGR around 0..1; classes (B, 8) padded with 0; their lengths (B), which stay on the CPU."""

    pictures: Tensor
    classes: Tensor
    lengths: Tensor


class Plates:
    """Some labelled plates on a device, drawn from in an order that is shuffled anew each time all were seen."""

    def __init__(self, pictures: npt.NDArray[np.uint8], texts: list[str], device: torch.device) -> None:
        self.digest = hashlib.sha256(pictures.tobytes() + "\n".join(texts).encode()).hexdigest()
        classes = np.zeros((len(texts), _LONGEST), np.int64)
        for row, text in zip(classes, texts, strict=True):
            row[: len(text)] = encode(text)
        self.pictures = torch.from_numpy(pictures).to(device)
        self.classes = torch.from_numpy(classes).to(device)
        self.lengths = torch.tensor(
            [len(text) for text in texts]
        )  # on the CPU, because the CTC loss would wait to read them

    def __len__(self) -> int:
        return len(self.lengths)

    def order(self, seed: int, first: int, count: int) -> npt.NDArray[np.int64]:
        """The plates at the positions first..first+count-1 of the endless shuffled sequence of a seed."""
        positions = np.arange(first, first + count)
        chosen = np.empty(count, np.int64)
        for round_ in np.unique(positions // len(self)):
            here = positions // len(self) == round_
            shuffled = np.random.default_rng([seed, _ORDER, int(round_)]).permutation(len(self))
            chosen[here] = shuffled[positions[here] % len(self)]
        return chosen

    def take(self, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures and classes on the device, lengths on the CPU."""
        rows = torch.from_numpy(chosen)
        there = rows.to(self.pictures.device, non_blocking=True)
        return self.pictures[there], self.classes[there], self.lengths[rows]


class Mixture:
    """Batches with fixed numbers of plates of each source. Its state is what the plates are, since their order needs none."""

    def __init__(self, sources: list[tuple[Plates, int]], seed: int) -> None:
        self._sources = sources
        self._seed = seed
        first, count = sources[0]
        self.epoch_steps = max(1, len(first) // count)  # steps in which the first source is seen once

    def batch(self, step: int) -> Batch:
        """The batch of a step, each plate with a look of its own."""
        parts = [plates.take(plates.order(self._seed, step * count, count)) for plates, count in self._sources]
        pictures, classes, lengths = (torch.cat(kind) for kind in zip(*parts, strict=True))
        return Batch(augmented(pictures, np.random.default_rng([self._seed, _LOOK, step])), classes, lengths)

    def state_dict(self) -> dict[str, Any]:
        """The digest and the share of each source."""
        return {"sources": [[plates.digest, count] for plates, count in self._sources]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore; but other plates than before are said, because the run then goes on differently."""
        if state != self.state_dict():
            print(
                "note: the plates are not those that this run was trained on so far; it goes on with the new ones",
                flush=True,
            )


def ahead(make: Callable[[int], Batch], steps: Iterable[int]) -> Iterator[tuple[int, Batch]]:
    """(step, make(step)) for each step, the next batch being made by a thread while this one is used.

    ``make`` must be a pure function: then nothing made ahead and thrown away at a stop is ever missed.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as maker:
        following: tuple[int, Future[Batch]] | None = None
        for step in steps:
            if following is None or following[0] != step:
                following = (step, maker.submit(make, step))
            batch = following[1].result()
            following = (step + 1, maker.submit(make, step + 1))
            yield step, batch
