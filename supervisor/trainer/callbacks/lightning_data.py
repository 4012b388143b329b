"""Where a fit is in its data: of each loader's epoch how its order was drawn and how many batches of it are done.

On a resume the same order is drawn again, and the indices of what is done are passed over: no sample of it is read.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset

from supervisor.core.errors import UsageError
from supervisor.core.messages import Note
from supervisor.trainer import frameworks, life, rng
from supervisor.trainer.callbacks.loader_chance import Chance, is_stateful
from supervisor.trainer.callbacks.loader_order import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Data:
    """Attached. ``mid_epoch()``: at the present boundary an epoch is under way."""

    def __init__(self, trainer: Any, mid_epoch: Callable[[], bool]) -> None:
        self._trainer, self._mid_epoch = trainer, mid_epoch
        self._combined: Any = None
        self._orders: list[Order | Walk | Own] = []
        self._waiting: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the order and the position in it follow from; between two epochs that is nothing but generators."""
        if self._waiting is not None:
            return self._waiting
        mid_epoch = self._mid_epoch()
        return {
            "batches": self.batches() if mid_epoch else 0,
            "made_in_epoch": self._trainer.fit_loop._last_train_dl_reload_epoch,  # noqa: SLF001  # there is no public one
            "orders": [order.state(mid_epoch=mid_epoch) for order in self._orders],
            "own": self._combined._state_dicts() if mid_epoch else [],  # noqa: SLF001  # as Lightning keeps them
        }

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Keep it until Lightning has the loaders."""
        self._waiting = tree

    def batches(self) -> int:
        """Return how many batches of this epoch Lightning has taken."""
        taken: int = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return taken

    def take(self, combined: Any) -> None:
        """Lightning has (new) loaders: make their orders such that they can be gone on with."""
        self.give_back()
        self._combined = combined
        flattened = list(combined.flattened)
        self._orders = [self._order(loader) for loader in flattened]
        iterated = [order.iterated for order in self._orders]
        if any(one is not other for one, other in zip(iterated, flattened, strict=True)):
            combined.flattened = iterated
        if self._waiting is not None:
            self._refuse_other_loaders(self._waiting)
            self._idle(now=True)  # Lightning begins an epoch here, but it is not the one that is gone on with

    def waits_within_an_epoch(self) -> bool:
        """Say whether an epoch is under way in what is to be put back."""
        return self._waiting is not None and bool(self._waiting["batches"])

    def put_back(self) -> bool:
        """Go on where the checkpoint was made; say whether an epoch is under way there, whose iterator must be made now."""
        waiting, self._waiting = self._waiting, None
        self._idle(now=False)
        if waiting is None:
            return False
        self._trainer.fit_loop._last_train_dl_reload_epoch = waiting["made_in_epoch"]  # noqa: SLF001  # see state_dict
        mid_epoch = bool(waiting["batches"])
        for order, kept in zip(self._orders, waiting["orders"], strict=True):
            order.go_on(kept, waiting["batches"])
        if mid_epoch:
            self._combined._load_state_dicts(waiting["own"])  # noqa: SLF001  # as Lightning puts them back
        return mid_epoch

    def give_back(self) -> None:
        """Leave the script's loaders as they were."""
        for order in self._orders:
            if isinstance(order, Order):
                order.give_back()
        self._orders = []

    def _order(self, loader: Any) -> Order | Walk | Own:
        if is_stateful(loader):
            return Own(loader)
        if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
            return Order(loader, self.batches)
        return Walk(loader, self.batches)

    def _idle(self, *, now: bool) -> None:
        for order in self._orders:
            order.idle = now

    def _refuse_other_loaders(self, kept: dict[str, Any]) -> None:
        kinds = [order.kind for order in self._orders]
        before = [each["kind"] for each in kept["orders"]]
        if kinds != before:
            raise UsageError(
                f"the checkpoint is of training loaders of the kinds {before}, and these are {kinds}",
                "use the loaders with which the run began, or start a new run under another --name",
            )


class Walk:
    """Stands in the place of a loader that cannot be told to begin later: what is done is read again, and passed over."""

    kind = "walk"

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        self._loader, self._batches = loader, batches
        self._chance = Chance((loader, getattr(loader, "dataset", None)))
        self._epoch: dict[str, Any] | None = None
        self._again: tuple[dict[str, Any], int] | None = None
        self.idle, self.iterated = False, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if self.idle:
            return iter(())
        if self._again is None:
            self._epoch = {"began": self._batches(), "before": self._chance.states()}
            return iter(self._loader)
        (self._epoch, skipped), self._again = self._again, None
        if skipped:
            words = (
                f"{skipped} batches of this epoch are read again and passed over, because a "
                f"{type(self._loader).__name__} of this kind cannot begin later; torchdata's StatefulDataLoader can"
            )
            life.here().say(Note("warning", words))
        self._chance.set(self._epoch["before"])
        rest: Iterator[Any] = iter(self._loader)
        for _ in islice(rest, skipped):
            pass
        return rest

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return the random generators with which the epoch under way began."""
        return {"kind": self.kind, "epoch": self._epoch if mid_epoch else None, "now": self._chance.own()}

    def go_on(self, kept: dict[str, Any], batches: int) -> None:
        """Make the next iteration the rest of the kept epoch, or, between two, a new one."""
        self._chance.set_own(kept["now"])
        self._again = None if kept["epoch"] is None else (kept["epoch"], batches - kept["epoch"]["began"])


class Own:
    """Beside a loader that keeps its position itself, as torchdata's StatefulDataLoader does: between two epochs it has none."""

    kind = "own"

    def __init__(self, loader: Any) -> None:
        sampler = getattr(loader, "batch_sampler", None)
        inner = getattr(sampler, "sampler", None), getattr(loader, "sampler", None)
        dataset = None if getattr(loader, "num_workers", 0) else getattr(loader, "dataset", None)
        self._chance = Chance((loader, sampler, *inner, dataset))
        self.iterated = loader if _is_sized(loader) else Behind(loader)
        self.idle = False

    def state(self, *, mid_epoch: bool) -> dict[str, Any]:
        """Return the generators between two epochs, from which the next one's order follows."""
        ahead = self.iterated.drawn if mid_epoch and isinstance(self.iterated, Behind) else None
        return {"kind": self.kind, "epoch": ahead, "now": None if mid_epoch else self._chance.own()}

    def go_on(self, kept: dict[str, Any], batches: int) -> None:  # noqa: ARG002  # the loader knows its own position
        """Between two epochs, set the generators."""
        if kept["now"] is not None:
            self._chance.set_own(kept["now"])
        if kept["epoch"] is not None:
            self.iterated.again = kept["epoch"]


class Behind:
    """Stands in the place of such a loader where its length is not known: Lightning then takes a batch before it needs it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._before: Any = None
        self.drawn: dict[str, Any] | None = None  # the global generators before that batch was taken
        self.again: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            self._before = self._loader.state_dict()
            if self.again is not None:
                rng.put_back(self.again)
                self.again = None
            self.drawn = rng.taken(frameworks.loaded())
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def state_dict(self) -> Any:
        """Return the loader's state before the batch that was taken last."""
        return self._before

    def load_state_dict(self, state: Any) -> None:
        """Have the loader go on there."""
        self._loader.load_state_dict(state)


def _is_sized(loader: Any) -> bool:
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return False
    return True
