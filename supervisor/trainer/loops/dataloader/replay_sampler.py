"""Replays the order of a DataLoader's epoch after a resume: completed items are skipped, not read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import adapters
from supervisor.trainer import context as trainer_context
from supervisor.trainer.loops.dataloader.rng_states import EpochRngStates
from supervisor.trainer.state import rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLER = {True: "batch_sampler", False: "sampler"}  # by whether the loader makes batches itself


class ReplaySampler:
    """Replaces a loader's sampler and yields the same items."""

    kind = "order"

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        self._loader, self._batches = loader, batches
        self._name = SAMPLER[loader.batch_sampler is not None]
        self._inner = getattr(loader, self._name)
        self._rng_states = EpochRngStates((loader, self._inner, getattr(self._inner, "sampler", None)))
        self._epoch: dict[str, Any] | None = None
        self._replay: tuple[dict[str, Any], int] | None = None
        self.disabled, self.iterable = False, loader
        vars(loader)[self._name] = self  # a DataLoader rejects setattr, because its workers would miss the change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[Any]:
        if self.disabled:
            return iter(())
        if self._replay is not None:
            epoch, skipped = self._replay
            if self._epoch is not epoch:  # a loader with workers asks for two iterators, and takes the second
                self._epoch = epoch
                self._rng_states.restore(epoch["before"])  # the seed of the workers is drawn next
            return self._replayed(epoch, skipped)
        if self._epoch is None or self._epoch["drawn"] is not None:
            self._epoch = {"before": self._rng_states.capture(), "drawn": None}
        self._epoch["began"] = self._batches()
        return self._first_draw(self._epoch)

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return how the current epoch was drawn, and the present states of the held generators."""
        return {"kind": self.kind, "epoch": self._epoch if mid_epoch else None, "now": self._rng_states.held_states()}

    def resume(self, stored: dict[str, Any], batches: int) -> None:
        """Make the next iteration the rest of the stored epoch, or a new epoch if none was under way."""
        self._rng_states.restore_held(stored["now"])
        self._replay = None if stored["epoch"] is None else (stored["epoch"], batches - stored["epoch"]["began"])
        if self._replay is not None and self._loader.num_workers:
            message = "workers read the rest of the epoch in the same order; what they draw at random themselves, they draw anew"
            trainer_context.current().send(TrainerNote("warning", message))

    def uninstall(self) -> None:
        """Put the script's sampler back into the loader."""
        vars(self._loader)[self._name] = self._inner

    def _first_draw(self, epoch: dict[str, Any]) -> Iterator[Any]:
        epoch["drawn"] = self._rng_states.capture()
        yield from self._inner

    def _replayed(self, epoch: dict[str, Any], skipped: int) -> Iterator[Any]:
        self._replay = None
        now = rng.current_states(adapters.loaded())
        if epoch["drawn"] is None:
            epoch["drawn"] = self._rng_states.capture()
        self._rng_states.restore(epoch["drawn"])
        rest = iter(self._inner)
        for _ in islice(rest, skipped):
            pass
        rng.set_states(now)  # the checkpoint's own, which has seen the order drawn already
        yield from rest
