"""The position of a fit in its data: for each loader how its order was drawn, and how many batches of the epoch are done.

On a resume, the same order is drawn again, and completed indices are skipped. No sample of them is read.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import adapters
from supervisor.trainer import context as trainer_context
from supervisor.trainer.loops.dataloader.replay_sampler import ReplaySampler
from supervisor.trainer.loops.dataloader.rng_states import EpochRngStates, is_stateful
from supervisor.trainer.state import rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class LightningDataPosition:
    """Attached. ``mid_epoch()``: the current boundary lies within an epoch."""

    def __init__(self, trainer: Any, mid_epoch: Callable[[], bool]) -> None:
        self._trainer, self._mid_epoch = trainer, mid_epoch
        self._combined: Any = None
        self._sources: list[ReplaySampler | SkippingLoader | StatefulLoader] = []
        self._pending_restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the order and the position in it; between two epochs only generators."""
        if self._pending_restore is not None:
            return self._pending_restore
        mid_epoch = self._mid_epoch()
        return {
            "batches": self.batches() if mid_epoch else 0,
            "made_in_epoch": self._trainer.fit_loop._last_train_dl_reload_epoch,  # noqa: SLF001  # there is no public one
            "orders": [source.state(mid_epoch=mid_epoch) for source in self._sources],
            "own": self._combined._state_dicts() if mid_epoch else [],  # noqa: SLF001  # as Lightning keeps them
        }

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Keep the state until Lightning has the loaders."""
        self._pending_restore = tree

    def batches(self) -> int:
        """Return the number of batches that Lightning has taken in this epoch."""
        taken: int = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return taken

    def set_loaders(self, combined: Any) -> None:
        """Make the orders of (new) loaders resumable."""
        self.uninstall()
        self._combined = combined
        flattened = list(combined.flattened)
        self._sources = [self._wrap(loader) for loader in flattened]
        iterated = [source.iterable for source in self._sources]
        if any(one is not other for one, other in zip(iterated, flattened, strict=True)):
            combined.flattened = iterated
        if self._pending_restore is not None:
            self._refuse_other_loaders(self._pending_restore)
            self._set_disabled(now=True)  # Lightning begins an epoch here, but it is not the one that is gone on with

    def resumes_mid_epoch(self) -> bool:
        """Return whether the state to restore lies within an epoch."""
        return self._pending_restore is not None and bool(self._pending_restore["batches"])

    def resume(self) -> bool:
        """Resume at the checkpoint's position.

        Return whether it lies within an epoch, whose iterator must be made now.
        """
        pending, self._pending_restore = self._pending_restore, None
        self._set_disabled(now=False)
        if pending is None:
            return False
        self._trainer.fit_loop._last_train_dl_reload_epoch = pending["made_in_epoch"]  # noqa: SLF001  # see state_dict
        mid_epoch = bool(pending["batches"])
        for source, stored in zip(self._sources, pending["orders"], strict=True):
            source.resume(stored, pending["batches"])
        if mid_epoch:
            self._combined._load_state_dicts(pending["own"])  # noqa: SLF001  # as Lightning puts them back
        return mid_epoch

    def uninstall(self) -> None:
        """Restore the script's loaders as they were."""
        for source in self._sources:
            if isinstance(source, ReplaySampler):
                source.uninstall()
        self._sources = []

    def _wrap(self, loader: Any) -> ReplaySampler | SkippingLoader | StatefulLoader:
        if is_stateful(loader):
            return StatefulLoader(loader)
        if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
            return ReplaySampler(loader, self.batches)
        return SkippingLoader(loader, self.batches)

    def _set_disabled(self, *, now: bool) -> None:
        for source in self._sources:
            source.disabled = now

    def _refuse_other_loaders(self, stored: dict[str, Any]) -> None:
        kinds = [source.kind for source in self._sources]
        before = [each["kind"] for each in stored["orders"]]
        if kinds != before:
            raise UsageError(
                f"the checkpoint is of training loaders of the kinds {before}, and these are {kinds}",
                "use the loaders with which the run began, or start a new run under another --name",
            )


class SkippingLoader:
    """Replaces a loader that cannot begin later: completed batches are read again and skipped."""

    kind = "walk"

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        self._loader, self._batches = loader, batches
        self._rng_states = EpochRngStates((loader, getattr(loader, "dataset", None)))
        self._epoch: dict[str, Any] | None = None
        self._replay: tuple[dict[str, Any], int] | None = None
        self.disabled, self.iterable = False, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if self.disabled:
            return iter(())
        if self._replay is None:
            self._epoch = {"began": self._batches(), "before": self._rng_states.capture()}
            return iter(self._loader)
        (self._epoch, skipped), self._replay = self._replay, None
        if skipped:
            message = (
                f"{skipped} batches of this epoch are read again and passed over, because a "
                f"{type(self._loader).__name__} of this kind cannot begin later; torchdata's StatefulDataLoader can"
            )
            trainer_context.current().send(TrainerNote("warning", message))
        self._rng_states.restore(self._epoch["before"])
        rest: Iterator[Any] = iter(self._loader)
        for _ in islice(rest, skipped):
            pass
        return rest

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return the random generators at the begin of the current epoch."""
        return {"kind": self.kind, "epoch": self._epoch if mid_epoch else None, "now": self._rng_states.held_states()}

    def resume(self, stored: dict[str, Any], batches: int) -> None:
        """Make the next iteration the rest of the stored epoch, or a new epoch if none was under way."""
        self._rng_states.restore_held(stored["now"])
        self._replay = None if stored["epoch"] is None else (stored["epoch"], batches - stored["epoch"]["began"])


class StatefulLoader:
    """Accompanies a loader with its own position, such as torchdata's StatefulDataLoader.

    Between epochs it has no position.
    """

    kind = "own"

    def __init__(self, loader: Any) -> None:
        sampler = getattr(loader, "batch_sampler", None)
        inner = getattr(sampler, "sampler", None), getattr(loader, "sampler", None)
        dataset = None if getattr(loader, "num_workers", 0) else getattr(loader, "dataset", None)
        self._rng_states = EpochRngStates((loader, sampler, *inner, dataset))
        self.iterable = loader if _is_sized(loader) else LookaheadLoader(loader)
        self.disabled = False

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return the generators between two epochs, which determine the next one's order."""
        ahead = self.iterable.rng_before_batch if mid_epoch and isinstance(self.iterable, LookaheadLoader) else None
        return {"kind": self.kind, "epoch": ahead, "now": None if mid_epoch else self._rng_states.held_states()}

    def resume(self, stored: dict[str, Any], batches: int) -> None:  # noqa: ARG002  # the loader knows its own position
        """Set the generators between two epochs."""
        if stored["now"] is not None:
            self._rng_states.restore_held(stored["now"])
        if stored["epoch"] is not None:
            self.iterable.replay = stored["epoch"]


class LookaheadLoader:
    """Replaces such a loader without a length, from which Lightning takes one batch in advance."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._state_before_batch: Any = None
        self.rng_before_batch: dict[str, Any] | None = None  # the global generators before that batch was taken
        self.replay: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            self._state_before_batch = self._loader.state_dict()
            if self.replay is not None:
                rng.set_states(self.replay)
                self.replay = None
            self.rng_before_batch = rng.current_states(adapters.loaded())
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def state_dict(self) -> Any:
        """Return the loader's state before the last taken batch."""
        return self._state_before_batch

    def load_state_dict(self, state: Any) -> None:
        """Resume the loader there."""
        self._loader.load_state_dict(state)


def _is_sized(loader: Any) -> bool:
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return False
    return True
