"""The order of samples as a pure function of (seed, epoch of data): the position in it is one integer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResumableShuffleSampler:
    """Endless: every ``length`` samples make an epoch with a shuffle of its own. Attach it, and the position is kept.

    It draws from a generator of its own, so that other uses of chance in the script do not change it.
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        self.position = 0  # samples given out so far, over all epochs
        self._length = length
        self._seed = seed
        self._shuffled: tuple[int, list[int]] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        epoch, index = divmod(self.position, self._length)
        self.position += 1
        return self.epoch(epoch)[index]

    def skip(self, samples: int) -> None:
        """Go on as if so many samples had been given out."""
        self.position += samples

    def epoch(self, epoch: int) -> list[int]:
        """Return the order of that epoch."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            indices = list(range(self._length))
            random.Random(f"{self._seed}/{epoch}").shuffle(indices)  # noqa: S311  # an order, not a secret
            self._shuffled = epoch, indices
        return self._shuffled[1]

    def state_dict(self) -> dict[str, int]:
        """Return what the order and the position in it follow from."""
        return {"position": self.position, "length": self._length, "seed": self._seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the kept position; UsageError if it is a position in another order."""
        if (state["length"], state["seed"]) != (self._length, self._seed):
            raise UsageError(
                f"the order of {self._length} samples with seed {self._seed} is not the kept one "
                f"of {state['length']} with seed {state['seed']}",
                "use the same samples and seed as when the run began",
            )
        self.position = state["position"]


Order = ResumableShuffleSampler  # its first name
