"""The position in a plain DataLoader: a resume draws the epoch's order again and skips the completed batches without reading them.

The attached loader stays the script's own object. Its class becomes a subclass that hands the batches out, and a wrapper
replaces its sampler. In workers, the generators are seeded for each batch, so that draws do not depend on the resume's place.
"""

from __future__ import annotations

import json
import random
import sys
import weakref
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import adapters
from supervisor.trainer import context as trainer_context
from supervisor.trainer.loops.dataloader.rng_states import EpochRngStates, is_stateful
from supervisor.trainer.state import rng
from supervisor.trainer.steps.data_position import DataPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from supervisor.trainer.adapters.port import StateAccess

_EAGER_SAMPLERS = {
    BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler,
}  # fmt: skip
_POSITION = "_supervisor_place"
ATTACH_IT = "supervisor.attach(data=loader), and iterate that loader: it goes on in the middle of its epoch"


def state_access(value: Any) -> StateAccess | None:
    """Return (get, set) for the position in a DataLoader; None if it has its own, or has none that can be saved."""
    if not isinstance(value, DataLoader) or is_stateful(value):
        return None
    if isinstance(value.dataset, IterableDataset):
        own: Any = value.dataset
        return (own.state_dict, own.load_state_dict) if is_stateful(own) and not value.num_workers else None
    position = vars(value).get(_POSITION) or LoaderPosition(value)
    return position.state_dict, position.load_state_dict


def attach_advice(value: Any) -> tuple[str, str] | None:
    """Return the reason why torch data cannot be attached, and a hint; None for other values."""
    if isinstance(value, DataLoader):
        why = "a DataLoader over an IterableDataset has no place that can be found again"
        if is_stateful(value.dataset):
            return (
                f"{why} while {value.num_workers} workers read ahead",
                "use num_workers=0, or torchdata's StatefulDataLoader",
            )
        hint = "use torchdata's StatefulDataLoader, or give the dataset state_dict() and load_state_dict() and num_workers=0"
        return why, hint
    if isinstance(value, Sampler):
        return f"a {type(value).__name__} does not know what was used of it", f"attach the DataLoader: {ATTACH_IT}"
    if type(value).__module__ == "torch.utils.data.dataloader":
        return "the iterator of a DataLoader is made anew by each process", f"attach the DataLoader: {ATTACH_IT}"
    return None


def restore_warning(value: Any) -> str:
    """Return a message on what a loader with its own position does not save; "" for nothing."""
    if isinstance(value, DataLoader) and is_stateful(value) and value.num_workers and not is_stateful(value.dataset):
        message = f"what its {value.num_workers} workers draw at random themselves, they draw anew after a resume"
        return f"{message}; the workers of a plain DataLoader that is attached are seeded for each batch"
    return ""


class _Epoch:
    """How an epoch was drawn: the generators before it began and before its sampler drew.

    ``batches_done`` of it are done.
    """

    def __init__(self, before: dict[str, Any], drawn: dict[str, Any] | None = None, batches_done: int = 0) -> None:
        self.before, self.drawn, self.batches_done = before, drawn, batches_done
        self.reading: dict[str, Any] | None = None  # the generators before the batch that comes first was read
        self._stored: dict[str, Any] | None = None

    def to_stored(self) -> dict[str, Any]:
        """Return the stored form; made once, because it does not change."""
        if self._stored is None or self._stored["drawn"] is None:
            drawn = None if self.drawn is None else _packed(self.drawn)
            self._stored = {"before": _packed(self.before), "drawn": drawn}
        return self._stored

    @classmethod
    def from_stored(cls, stored: dict[str, Any], batches_done: int) -> _Epoch:
        """Return the epoch that ``to_stored`` stored."""
        drawn = stored["drawn"]
        return cls(_unpacked(stored["before"]), None if drawn is None else _unpacked(drawn), batches_done)


def _packed(states: dict[str, Any]) -> dict[str, Any]:
    return {"global": json.dumps(rng.as_json(states["global"])).encode(), "own": states["own"]}


def _unpacked(stored: dict[str, Any]) -> dict[str, Any]:
    return {"global": rng.decode_states(json.loads(stored["global"])), "own": stored["own"]}


class LoaderPosition(DataPosition):
    """``number`` is the next or current epoch, and ``batches`` of it are done."""

    def __init__(self, loader: Any) -> None:
        self.number, self.batches_are_steps = 0, False
        self._loader = weakref.ref(loader)
        self._sampler = _SamplerWrapper(loader)
        self._iteration: _Iteration | None = None
        self._resumed_epoch: _Epoch | None = None  # the resumed one, until a step of it is done
        self._handed_ahead = 0  # of batches that were handed out, those whose step is not done yet
        self._rng_before_read: dict[str, Any] | None = None  # the generators before the newest of these was read
        vars(loader)[_POSITION] = self
        kind: Any = type(loader)
        loader.__class__ = _tracked_class(kind)

    @property
    def batches(self) -> int:
        """Batches of the current epoch that are done."""
        return max(0, self._iteration.handed - self._handed_ahead) if self._iteration is not None else 0

    def __len__(self) -> int:
        return len(self._sampler)

    def iterate(self, inner: Callable[[], Any]) -> Any:
        """Return the iterator of an epoch; ``inner()`` makes the loader's own."""
        run = trainer_context.current().run
        if not torch.is_grad_enabled() or (run is not None and run.in_section):
            return self._sampler.plain(inner)  # an evaluation
        if (
            self._resumed_epoch is not None
            and self._resumed_epoch.batches_done == self._length()
            and (run is None or not run.looping)
        ):
            return self._sampler.plain(inner)  # nothing is left of that epoch: the script only looks at a batch
        before = self._iteration
        if self._resumed_epoch is None and before is not None and not self.batches_are_steps:
            self.number += 1
        if before is not None and before.handed - before.first == self._handed_ahead and not before.exhausted:
            self._handed_ahead = 0  # the batch before the loop was but looked at
        epoch = self._resumed_epoch
        rng_states = self._sampler.rng_states
        if epoch is None:
            epoch = _Epoch(_torch_only(rng_states.capture()))
            self._sampler.next = (epoch, False)
            found = inner()
        else:
            now = rng.current_states(adapters.loaded())
            rng_states.restore(epoch.before)
            self._sampler.next = (epoch, True)
            found = inner()
            rng.set_states(now)
        self._iteration = _Iteration(self, found, epoch)
        return self._iteration

    def on_batch_requested(self, iteration: _Iteration) -> None:
        """Record that the previous batch is done: the next one is requested."""
        self._iteration = iteration
        run = trainer_context.current().run
        if self.batches_are_steps and run is not None and iteration.outstanding:
            iteration.outstanding = False
            run.advance()
        if iteration.handed - self._handed_ahead > iteration.first:
            self._resumed_epoch = None

    def read_batch(self, iteration: _Iteration) -> Any:
        """Return the next batch, read with the generators as they were at its first read."""
        if self._handed_ahead:
            self._rng_before_read = rng.current_states(adapters.loaded())
        reading = iteration.epoch.reading if iteration.handed == iteration.first else None
        if reading is None:
            return iteration.next()
        now = rng.current_states(adapters.loaded())
        self._rng_before_read = reading
        rng.set_states(reading)
        try:
            return iteration.next()
        finally:
            rng.set_states(now)

    def on_exhausted(self, iteration: _Iteration) -> None:
        """Record that the epoch has no more batches: the next draw begins another epoch."""
        if self._resumed_epoch is iteration.epoch:
            self._resumed_epoch = None

    def next_step_is_skipped(self) -> bool:
        """Return whether a rollback skips the next step and its batch."""
        run = trainer_context.current().run
        return self.batches_are_steps and run is not None and run.is_skipped(run.step)

    def on_batch_skipped(self) -> None:
        """Record the skipped step, whose batch was taken and dropped."""
        run = trainer_context.current().run
        if run is not None:
            run.skip_step()

    def on_loop_start(self) -> None:
        it = self._iteration
        self._handed_ahead = 1 if it is not None and not it.exhausted and it.handed - it.first == 1 else 0

    def on_epoch_end(self) -> None:
        it, self._iteration, self._resumed_epoch = self._iteration, None, None
        self.number += 1
        run = trainer_context.current().run
        if it is not None and it.outstanding and run is not None:
            it.outstanding = False
            run.advance()  # the script has left the epoch early

    def state_dict(self) -> dict[str, Any]:
        epoch = self._iteration.epoch if self._iteration is not None else self._resumed_epoch
        batches_done = self.batches if self._iteration is not None else (epoch.batches_done if epoch is not None else 0)
        stored = {
            "epoch": self.number,
            "batches": batches_done,
            "made_of": self._describe(),
            "own": self._sampler.rng_states.held_states(),
        }
        if self._iteration is None:
            states = self._resumed_epoch.reading if self._resumed_epoch is not None else None
        else:
            states = self._rng_before_read if self._handed_ahead else None
        reading = None if states is None else json.dumps(rng.as_json(_drawn_since(states))).encode()
        return stored | {"drawing": None if epoch is None else epoch.to_stored(), "reading": reading}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["batches"] and state["made_of"] != (description := self._describe()):
            raise UsageError(
                f"the checkpoint is in the middle of an epoch of {state['made_of']}, this loader has {description}",
                "use the same data and batch size as when the run began",
            )
        self.number, self._iteration, self._handed_ahead = state["epoch"], None, 0
        self._sampler.rng_states.restore_held(state["own"])
        self._resumed_epoch = (
            None if state["drawing"] is None else _Epoch.from_stored(state["drawing"], state["batches"])
        )
        if self._resumed_epoch is not None and state["reading"] is not None:
            self._resumed_epoch.reading = rng.decode_states(json.loads(state["reading"]))

    def _length(self) -> int | None:
        try:
            return len(self)
        except TypeError:
            return None  # without end

    def _describe(self) -> str:
        length = self._length()
        return "batches without end" if length is None else f"{length} batches"


class _Iteration:
    """Hands out the batches of an epoch. ``first`` were done before; ``handed`` counts these too."""

    def __init__(self, position: LoaderPosition, inner: Any, epoch: _Epoch) -> None:
        self._position, self._inner, self.epoch = position, inner, epoch
        self.first = self.handed = epoch.batches_done
        self.exhausted = self.outstanding = False

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Any:
        self._position.on_batch_requested(self)
        while True:
            skipped = self._position.next_step_is_skipped()
            try:
                batch = self._position.read_batch(self)
            except StopIteration:
                self.exhausted = True
                self._position.on_exhausted(self)
                raise
            self.handed += 1
            if not skipped:
                self.outstanding = True
                return batch
            self._position.on_batch_skipped()

    def next(self) -> Any:
        """Return the next batch of the loader's own iterator."""
        return next(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _SamplerWrapper:
    """Replaces a loader's sampler and yields the same items."""

    def __init__(self, loader: Any) -> None:
        self._name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
        self._inner = getattr(loader, self._name)
        self._workers = loader.num_workers
        self.rng_states = EpochRngStates((loader, self._inner, getattr(self._inner, "sampler", None)))
        self.next: tuple[_Epoch, bool] | None = None  # the epoch to draw, and whether it is drawn again
        self._order_checked = all(
            type(each) in _EAGER_SAMPLERS for each in (self._inner, getattr(self._inner, "sampler", self._inner))
        )
        vars(loader)[self._name] = self  # a DataLoader rejects setattr, because its workers would miss the change

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def plain(self, inner: Callable[[], Any]) -> Any:
        """Return an iterator of the loader that is not tracked."""
        self.next = None
        return inner()

    def __iter__(self) -> Iterator[Any]:
        # A loader with workers asks for two iterators, and takes the second: what is here runs when the first item is taken.
        return iter(self._inner) if self.next is None else self._draw(*self.next)

    def _draw(self, epoch: _Epoch, again: bool) -> Iterator[Any]:
        if again and epoch.drawn is not None:
            now, own = rng.current_states(adapters.loaded()), self.rng_states.held_states()
            self.rng_states.restore(epoch.drawn)
            items = iter(self._inner)
            for _ in islice(items, epoch.batches_done):
                pass
            rng.set_states(now)  # the checkpoint's own, which has seen the order drawn already
            if not self._workers and not epoch.batches_done:
                self.rng_states.restore_held(own)
        else:
            epoch.drawn = self.rng_states.capture()
            items = iter(self._inner)
            items = self._with_used_generators(items, epoch)
        seed = _seed_of(epoch.drawn)
        for number, item in enumerate(self._checked(items), epoch.batches_done):
            yield _SeededIndices(item, seed, number) if self._workers and type(item) is list else item

    def _with_used_generators(self, items: Iterator[Any], epoch: _Epoch) -> Iterator[Any]:
        """Yield the items; of the generators before the first, keep only those that the order was drawn from."""
        for item in islice(items, 1):
            assert epoch.drawn is not None, "it was noted before the sampler was asked"
            stored = _drawn_since(epoch.drawn["global"]) | _torch_only(epoch.drawn)["global"]
            epoch.drawn = {**epoch.drawn, "global": stored}
            yield item
        yield from items

    def _checked(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items; warn once if an item depends on the time when it is drawn."""
        yield from islice(items, 1)
        if not self._order_checked:
            self._order_checked = True
            before = rng.digests(adapters.loaded())
            yield from self._warned_if_lazy(items, before)
        yield from items

    def _warned_if_lazy(self, items: Iterator[Any], before: dict[str, str]) -> Iterator[Any]:
        for item in islice(items, 1):
            if rng.digests(adapters.loaded()) != before:
                message = f"{type(self._inner).__name__} draws its order batch by batch from the global generators"
                hint = "after a resume in the middle of an epoch it is another; give the sampler a generator of its own"
                trainer_context.current().send(TrainerNote("warning", f"{message}: {hint}"))
            yield item


class _SeededIndices(list[Any]):
    """The indices of one batch, which seed the global generators of the worker that reads them."""

    def __init__(self, items: Iterable[Any], seed: int, number: int) -> None:
        super().__init__(items)
        self._of = seed, number

    def __reduce__(self) -> tuple[Any, ...]:
        return _SeededIndices, (list(self[:]), *self._of)

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            number = int.from_bytes(blake2b(repr(self._of).encode(), digest_size=4).digest(), "big")
            random.seed(number)
            torch.manual_seed(number)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(number)
        return super().__iter__()


def _torch_only(states: dict[str, Any]) -> dict[str, Any]:
    """Return the states with torch's CPU generator alone, from which a loader draws itself."""
    return {**states, "global": {"torch": {**states["global"]["torch"], "cuda": []}}}


def _drawn_since(states: dict[str, Any]) -> dict[str, Any]:
    """Return those of the states whose generators were drawn from since."""
    now = rng.current_states(adapters.loaded())
    return {
        name: state
        for name, state in states.items()
        if rng.as_json({name: state}) != rng.as_json({name: now.get(name)})
    }


def _seed_of(states: dict[str, Any]) -> int:
    """Return a seed that is determined by the generators at the begin of an epoch."""
    own = [each for each in states["own"] if isinstance(each, torch.Tensor)]
    tensors = [states["global"]["torch"]["cpu"], *own]
    digest = blake2b(b"".join(bytes(each.numpy()) for each in tensors), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


@cache
def _tracked_class(kind: type) -> Any:
    """Return the subclass whose objects hand their batches out through their position."""

    def iterate(self: Any) -> Any:
        return vars(self)[_POSITION].iterate(lambda: kind.__iter__(self))  # type: ignore[attr-defined]

    return type(kind.__name__, (kind,), {"__iter__": iterate, "__module__": kind.__module__, "__doc__": kind.__doc__})


# --- unattached loaders ------------------------------------------------------------------------------------------------

_open_iterators: weakref.WeakKeyDictionary[Any, Any] = (
    weakref.WeakKeyDictionary()
)  # iterators of such loaders, and the loaders
_installed: list[bool] = []


def watch_unattached_data() -> None:
    """Record from now on which loaders are iterated. Once a process."""
    if _installed:
        return
    _installed.append(True)
    iterate = DataLoader.__iter__

    def tracked_iter(self: Any) -> Any:
        found = iterate(self)
        if _POSITION not in vars(self) and torch.is_grad_enabled():
            _open_iterators[found] = self
        return found

    DataLoader.__iter__ = tracked_iter  # type: ignore[method-assign]


def unattached_data_warning(attached: Collection[Any]) -> str:
    """Return a message if an unattached loader is in the middle of an epoch; else ""."""
    known = {id(each) for each in attached} | {
        id(held) for each in attached for held in getattr(each, "__dict__", {}).values()
    }
    for iterator, loader in list(_open_iterators.items()):
        parts = (loader, loader.dataset, loader.sampler, loader.batch_sampler, iterator)
        done = getattr(iterator, "_num_yielded", 0)
        if loader.num_workers and id(loader.sampler) in {id(each) for each in attached}:
            message = (
                "the attached sampler is asked ahead by the DataLoader's workers: after a resume, batches are left out"
            )
            return f"{message}; attach the loader itself: supervisor.attach(data=loader)"
        if 0 < done < _length(loader) and not any(id(each) in known for each in parts):
            message = (
                "a DataLoader is in the middle of its epoch, and no data order is attached: a resume begins its epoch again, "
                "which repeats batches or skips some"
            )
            return f"{message}; attach it: supervisor.attach(data=loader)"
    return ""


def _length(loader: Any) -> float:
    try:
        return len(loader)
    except TypeError:
        return float("inf")
