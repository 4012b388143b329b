"""What each training step sees: a pure function of (seed, step), so that a resumed run goes on with the very next plate."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from hyperlpr_example.alphabet import encode
from hyperlpr_example.augment import Looks, drawn_looks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hyperlpr_example.plates import LabelledPlates, Pictures

LONGEST = 8
_ORDER, _LOOK = 1, 2  # keys that keep the draws for the order and for the looks of pictures apart

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class Drawn:
    """B plates by their numbers in the mixture, and the look that each is to have."""

    chosen: npt.NDArray[np.int64]
    looks: Looks


class Mixture:
    """Batches with fixed numbers of plates of each source; ``classes`` (N, 8) are padded with 0.

    Its state is what the plates are, since their order needs none.
    """

    def __init__(self, sources: list[tuple[LabelledPlates, int]], seed: int) -> None:
        self._seed = seed
        self._counts = [count for _, count in sources]
        self._sizes = [len(plates.texts) for plates, _ in sources]
        self._digests = [_digest(plates) for plates, _ in sources]
        texts = [text for plates, _ in sources for text in plates.texts]
        self.pictures: Pictures = np.concatenate([plates.pictures for plates, _ in sources])
        self.classes = np.zeros((len(texts), LONGEST), np.int64)
        for row, text in zip(self.classes, texts, strict=True):
            row[: len(text)] = encode(text)
        self.lengths = np.array([len(text) for text in texts])
        self.epoch_steps = max(1, self._sizes[0] // self._counts[0])  # steps in which the first source is seen once

    def drawn(self, step: int) -> Drawn:
        """The plates of a step, each with a look of its own."""
        chosen, begin = [], 0
        for size, count in zip(self._sizes, self._counts, strict=True):
            chosen.append(begin + order(size, self._seed, step * count, count))
            begin += size
        looks = drawn_looks(sum(self._counts), np.random.default_rng([self._seed, _LOOK, step]))
        return Drawn(np.concatenate(chosen), looks)

    def state_dict(self) -> dict[str, Any]:
        """The digest and the share of each source."""
        return {"sources": [list(source) for source in zip(self._digests, self._counts, strict=True)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore; but other plates than before are said, because the run then goes on differently."""
        if state != self.state_dict():
            print(
                "note: the plates are not those that this run was trained on so far; it goes on with the new ones",
                flush=True,
            )


def order(size: int, seed: int, first: int, count: int) -> npt.NDArray[np.int64]:
    """The positions first..first+count-1 of an endless sequence in which ``size`` plates are shuffled anew each round."""
    positions = np.arange(first, first + count)
    chosen = np.empty(count, np.int64)
    for round_ in np.unique(positions // size):
        here = positions // size == round_
        shuffled = np.random.default_rng([seed, _ORDER, int(round_)]).permutation(size)
        chosen[here] = shuffled[positions[here] % size]
    return chosen


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


def _digest(plates: LabelledPlates) -> str:
    return hashlib.sha256(plates.pictures.tobytes() + "\n".join(plates.texts).encode()).hexdigest()
