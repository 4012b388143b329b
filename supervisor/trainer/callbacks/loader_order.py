"""The order of a DataLoader's epoch, drawn again after a resume as it was drawn: what is done is passed over, not read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note
from supervisor.trainer import frameworks, life, rng
from supervisor.trainer.callbacks.loader_chance import Chance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLER = {True: "batch_sampler", False: "sampler"}  # by whether the loader makes batches itself


class Order:
    """Stands in a loader in the place of its sampler, and gives what that gives."""

    kind = "order"

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        self._loader, self._batches = loader, batches
        self._name = SAMPLER[loader.batch_sampler is not None]
        self._inner = getattr(loader, self._name)
        self._chance = Chance((loader, self._inner, getattr(self._inner, "sampler", None)))
        self._epoch: dict[str, Any] | None = None
        self._again: tuple[dict[str, Any], int] | None = None
        self.idle, self.iterated = False, loader
        vars(loader)[self._name] = self  # a DataLoader refuses the usual way, lest its workers miss the change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[Any]:
        if self.idle:
            return iter(())
        if self._again is not None:
            epoch, skipped = self._again
            if self._epoch is not epoch:  # a loader with workers asks for two iterators, and takes the second
                self._epoch = epoch
                self._chance.set(epoch["before"])  # the seed of the workers is drawn next
            return self._gone_on_with(epoch, skipped)
        if self._epoch is None or self._epoch["drawn"] is not None:
            self._epoch = {"before": self._chance.states(), "drawn": None}
        self._epoch["began"] = self._batches()
        return self._begun(self._epoch)

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return how the epoch under way was drawn, and the generators as they are."""
        return {"kind": self.kind, "epoch": self._epoch if mid_epoch else None, "now": self._chance.own()}

    def go_on(self, kept: dict[str, Any], batches: int) -> None:
        """Make the next iteration the rest of the kept epoch, or, between two, a new one."""
        self._chance.set_own(kept["now"])
        self._again = None if kept["epoch"] is None else (kept["epoch"], batches - kept["epoch"]["began"])
        if self._again is not None and self._loader.num_workers:
            words = "workers read the rest of the epoch in the same order; what they draw at random themselves, they draw anew"
            life.here().say(Note("warning", words))

    def give_back(self) -> None:
        """Put the script's sampler back."""
        vars(self._loader)[self._name] = self._inner

    def _begun(self, epoch: dict[str, Any]) -> Iterator[Any]:
        epoch["drawn"] = self._chance.states()
        yield from self._inner

    def _gone_on_with(self, epoch: dict[str, Any], skipped: int) -> Iterator[Any]:
        self._again = None
        now = rng.taken(frameworks.loaded())
        if epoch["drawn"] is None:
            epoch["drawn"] = self._chance.states()
        self._chance.set(epoch["drawn"])
        rest = iter(self._inner)
        for _ in islice(rest, skipped):
            pass
        rng.put_back(now)  # the checkpoint's own, which has seen the order drawn already
        yield from rest
