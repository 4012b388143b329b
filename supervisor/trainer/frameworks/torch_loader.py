"""The place in a plain DataLoader: an epoch is drawn again as it was drawn, and what is done of it is passed over, not read.

The attached loader stays the script's own; its class is a subclass that hands the batches out, and something stands in the
place of its sampler. In workers, chance is seeded anew for each batch, so that it does not depend on where a resume was.
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
from supervisor.core.messages import Note
from supervisor.trainer import frameworks, life, rng
from supervisor.trainer.callbacks.loader_chance import Chance, is_stateful
from supervisor.trainer.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from supervisor.trainer.frameworks.framework import StateAccess

_DRAWN_AT_ONCE = {
    BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler,
}  # fmt: skip
_PLACE = "_supervisor_place"
ATTACH_IT = "supervisor.attach(data=loader), and iterate that loader: it goes on in the middle of its epoch"


def access(value: Any) -> StateAccess | None:
    """Return how the place in a DataLoader is kept; None for what keeps its own, or cannot be kept."""
    if not isinstance(value, DataLoader) or is_stateful(value):
        return None
    if isinstance(value.dataset, IterableDataset):
        own: Any = value.dataset
        return (own.state_dict, own.load_state_dict) if is_stateful(own) and not value.num_workers else None
    place = vars(value).get(_PLACE) or LoaderPlace(value)
    return place.state_dict, place.load_state_dict


def advice(value: Any) -> tuple[str, str] | None:
    """Return why data of torch cannot be attached, and what can be; None for other things."""
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


def caution(value: Any) -> str:
    """Return words on what a loader that keeps its own place does not keep; "" for nothing."""
    if isinstance(value, DataLoader) and is_stateful(value) and value.num_workers and not is_stateful(value.dataset):
        words = f"what its {value.num_workers} workers draw at random themselves, they draw anew after a resume"
        return f"{words}; the workers of a plain DataLoader that is attached are seeded for each batch"
    return ""


class _Epoch:
    """How an epoch was drawn: chance before it began, and before its sampler was asked first; ``passed`` are done."""

    def __init__(self, before: dict[str, Any], drawn: dict[str, Any] | None = None, passed: int = 0) -> None:
        self.before, self.drawn, self.passed = before, drawn, passed
        self.reading: dict[str, Any] | None = None  # the generators before the batch that comes first was read
        self._kept: dict[str, Any] | None = None

    def as_kept(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it; made once, because it does not change."""
        if self._kept is None or self._kept["drawn"] is None:
            drawn = None if self.drawn is None else _packed(self.drawn)
            self._kept = {"before": _packed(self.before), "drawn": drawn}
        return self._kept

    @classmethod
    def of_kept(cls, kept: dict[str, Any], passed: int) -> _Epoch:
        """Return the epoch that ``as_kept`` has written down."""
        drawn = kept["drawn"]
        return cls(_unpacked(kept["before"]), None if drawn is None else _unpacked(drawn), passed)


def _packed(states: dict[str, Any]) -> dict[str, Any]:
    return {"global": json.dumps(rng.as_json(states["global"])).encode(), "own": states["own"]}


def _unpacked(kept: dict[str, Any]) -> dict[str, Any]:
    return {"global": rng.states(json.loads(kept["global"])), "own": kept["own"]}


class LoaderPlace(Place):
    """``number`` is the epoch that comes next or is under way. ``batches`` of it are done."""

    def __init__(self, loader: Any) -> None:
        self.number, self.drives = 0, False
        self._loader = weakref.ref(loader)
        self._sampler = _Drawing(loader)
        self._iteration: _Iteration | None = None
        self._next: _Epoch | None = None  # the resumed one, until a step of it is done
        self._ahead = 0  # of batches that were handed out, those whose step is not done yet
        self._reading: dict[str, Any] | None = None  # the generators before the newest of these was read
        vars(loader)[_PLACE] = self
        kind: Any = type(loader)
        loader.__class__ = _handing_out(kind)

    @property
    def batches(self) -> int:
        """Batches of the epoch under way that are done."""
        return max(0, self._iteration.handed - self._ahead) if self._iteration is not None else 0

    def __len__(self) -> int:
        return len(self._sampler)

    def iterate(self, inner: Callable[[], Any]) -> Any:
        """Return the iterator of an epoch; ``inner()`` makes the loader's own."""
        run = life.here().run
        if not torch.is_grad_enabled() or (run is not None and run.in_section):
            return self._sampler.plain(inner)  # an evaluation
        if self._next is not None and self._next.passed == self._length() and (run is None or not run.looping):
            return self._sampler.plain(inner)  # nothing is left of that epoch: the script only looks at a batch
        before = self._iteration
        if self._next is None and before is not None and not self.drives:
            self.number += 1
        if before is not None and before.handed - before.first == self._ahead and not before.exhausted:
            self._ahead = 0  # the batch before the loop was but looked at
        epoch = self._next
        chance = self._sampler.chance
        if epoch is None:
            epoch = _Epoch(_of_torch(chance.states()))
            self._sampler.next = (epoch, False)
            found = inner()
        else:
            now = rng.taken(frameworks.loaded())
            chance.set(epoch.before)
            self._sampler.next = (epoch, True)
            found = inner()
            rng.put_back(now)
        self._iteration = _Iteration(self, found, epoch)
        return self._iteration

    def asked(self, iteration: _Iteration) -> None:
        """The next batch is asked for: the one before is done."""
        self._iteration = iteration
        run = life.here().run
        if self.drives and run is not None and iteration.outstanding:
            iteration.outstanding = False
            run.advance()
        if iteration.handed - self._ahead > iteration.first:
            self._next = None

    def read(self, iteration: _Iteration) -> Any:
        """Return the next batch, read with chance as it was where it was read before."""
        if self._ahead:
            self._reading = rng.taken(frameworks.loaded())
        reading = iteration.epoch.reading if iteration.handed == iteration.first else None
        if reading is None:
            return iteration.next()
        now = rng.taken(frameworks.loaded())
        self._reading = reading
        rng.put_back(reading)
        try:
            return iteration.next()
        finally:
            rng.put_back(now)

    def used_up(self, iteration: _Iteration) -> None:
        """The epoch has no batch more: what is drawn next is another one."""
        if self._next is iteration.epoch:
            self._next = None

    def leaves_out(self) -> bool:
        """Say whether the step that comes next is left out, its batch with it."""
        run = life.here().run
        return self.drives and run is not None and run.skips(run.step)

    def left_out(self) -> None:
        """The batch of that step was taken, and goes nowhere."""
        run = life.here().run
        if run is not None:
            run.pass_over()

    def loop_begins(self) -> None:
        it = self._iteration
        self._ahead = 1 if it is not None and not it.exhausted and it.handed - it.first == 1 else 0

    def epoch_ends(self) -> None:
        it, self._iteration, self._next = self._iteration, None, None
        self.number += 1
        run = life.here().run
        if it is not None and it.outstanding and run is not None:
            it.outstanding = False
            run.advance()  # the script has left the epoch early

    def state_dict(self) -> dict[str, Any]:
        epoch = self._iteration.epoch if self._iteration is not None else self._next
        passed = self.batches if self._iteration is not None else (epoch.passed if epoch is not None else 0)
        kept = {"epoch": self.number, "batches": passed, "made_of": self._made_of(), "own": self._sampler.chance.own()}
        if self._iteration is None:
            states = self._next.reading if self._next is not None else None
        else:
            states = self._reading if self._ahead else None
        reading = None if states is None else json.dumps(rng.as_json(_changed(states))).encode()
        return kept | {"drawing": None if epoch is None else epoch.as_kept(), "reading": reading}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["batches"] and state["made_of"] != (made_of := self._made_of()):
            raise UsageError(
                f"the checkpoint is in the middle of an epoch of {state['made_of']}, this loader has {made_of}",
                "use the same data and batch size as when the run began",
            )
        self.number, self._iteration, self._ahead = state["epoch"], None, 0
        self._sampler.chance.set_own(state["own"])
        self._next = None if state["drawing"] is None else _Epoch.of_kept(state["drawing"], state["batches"])
        if self._next is not None and state["reading"] is not None:
            self._next.reading = rng.states(json.loads(state["reading"]))

    def _length(self) -> int | None:
        try:
            return len(self)
        except TypeError:
            return None  # without end

    def _made_of(self) -> str:
        length = self._length()
        return "batches without end" if length is None else f"{length} batches"


class _Iteration:
    """Hands the batches of an epoch out; ``first`` were done before, ``handed`` counts these too."""

    def __init__(self, place: LoaderPlace, inner: Any, epoch: _Epoch) -> None:
        self._place, self._inner, self.epoch = place, inner, epoch
        self.first = self.handed = epoch.passed
        self.exhausted = self.outstanding = False

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Any:
        self._place.asked(self)
        while True:
            skipped = self._place.leaves_out()
            try:
                batch = self._place.read(self)
            except StopIteration:
                self.exhausted = True
                self._place.used_up(self)
                raise
            self.handed += 1
            if not skipped:
                self.outstanding = True
                return batch
            self._place.left_out()

    def next(self) -> Any:
        """Return what the loader's own iterator gives."""
        return next(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Drawing:
    """Stands in a loader in the place of its sampler, and gives what that gives."""

    def __init__(self, loader: Any) -> None:
        self._name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
        self._inner = getattr(loader, self._name)
        self._workers = loader.num_workers
        self.chance = Chance((loader, self._inner, getattr(self._inner, "sampler", None)))
        self.next: tuple[_Epoch, bool] | None = None  # the epoch to draw, and whether it is drawn again
        self._looked_at = all(
            type(each) in _DRAWN_AT_ONCE for each in (self._inner, getattr(self._inner, "sampler", self._inner))
        )
        vars(loader)[self._name] = self  # a DataLoader refuses the usual way, lest its workers miss the change

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def plain(self, inner: Callable[[], Any]) -> Any:
        """Return an iterator of the loader that is not followed."""
        self.next = None
        return inner()

    def __iter__(self) -> Iterator[Any]:
        # A loader with workers asks for two iterators, and takes the second: what is here runs when the first item is taken.
        return iter(self._inner) if self.next is None else self._drawn(*self.next)

    def _drawn(self, epoch: _Epoch, again: bool) -> Iterator[Any]:
        if again and epoch.drawn is not None:
            now, own = rng.taken(frameworks.loaded()), self.chance.own()
            self.chance.set(epoch.drawn)
            items = iter(self._inner)
            for _ in islice(items, epoch.passed):
                pass
            rng.put_back(now)  # the checkpoint's own, which has seen the order drawn already
            if not self._workers and not epoch.passed:
                self.chance.set_own(own)
        else:
            epoch.drawn = self.chance.states()
            items = iter(self._inner)
            items = self._noting(items, epoch)
        seed = _seed_of(epoch.drawn)
        for number, item in enumerate(self._looked(items), epoch.passed):
            yield _Seeded(item, seed, number) if self._workers and type(item) is list else item

    def _noting(self, items: Iterator[Any], epoch: _Epoch) -> Iterator[Any]:
        """Yield the items; of chance before the first, keep only the generators from which the order was drawn."""
        for item in islice(items, 1):
            assert epoch.drawn is not None, "it was noted before the sampler was asked"
            kept = _changed(epoch.drawn["global"]) | _of_torch(epoch.drawn)["global"]
            epoch.drawn = {**epoch.drawn, "global": kept}
            yield item
        yield from items

    def _looked(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items; say once if what comes depends on when it is asked for."""
        yield from islice(items, 1)
        if not self._looked_at:
            self._looked_at = True
            before = rng.digests(frameworks.loaded())
            yield from self._told_if_lazy(items, before)
        yield from items

    def _told_if_lazy(self, items: Iterator[Any], before: dict[str, str]) -> Iterator[Any]:
        for item in islice(items, 1):
            if rng.digests(frameworks.loaded()) != before:
                words = f"{type(self._inner).__name__} draws its order batch by batch from the global generators"
                hint = "after a resume in the middle of an epoch it is another; give the sampler a generator of its own"
                life.here().say(Note("warning", f"{words}: {hint}"))
            yield item


class _Seeded(list[Any]):
    """The indices of one batch, which seed the global generators of the worker that reads them."""

    def __init__(self, items: Iterable[Any], seed: int, number: int) -> None:
        super().__init__(items)
        self._of = seed, number

    def __reduce__(self) -> tuple[Any, ...]:
        return _Seeded, (list(self[:]), *self._of)

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            number = int.from_bytes(blake2b(repr(self._of).encode(), digest_size=4).digest(), "big")
            random.seed(number)
            torch.manual_seed(number)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(number)
        return super().__iter__()


def _of_torch(states: dict[str, Any]) -> dict[str, Any]:
    """Return chance with the generator alone from which a loader draws itself: torch's on the CPU."""
    return {**states, "global": {"torch": {**states["global"]["torch"], "cuda": []}}}


def _changed(states: dict[str, Any]) -> dict[str, Any]:
    """Return of these states those of generators that were drawn from since."""
    now = rng.taken(frameworks.loaded())
    return {
        name: state
        for name, state in states.items()
        if rng.as_json({name: state}) != rng.as_json({name: now.get(name)})
    }


def _seed_of(states: dict[str, Any]) -> int:
    """Return a number that follows from chance at the begin of an epoch."""
    own = [each for each in states["own"] if isinstance(each, torch.Tensor)]
    tensors = [states["global"]["torch"]["cpu"], *own]
    digest = blake2b(b"".join(bytes(each.numpy()) for each in tensors), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


@cache
def _handing_out(kind: type) -> Any:
    """Return the subclass whose objects hand their batches out through their place."""

    def iterate(self: Any) -> Any:
        return vars(self)[_PLACE].iterate(lambda: kind.__iter__(self))  # type: ignore[attr-defined]

    return type(kind.__name__, (kind,), {"__iter__": iterate, "__module__": kind.__module__, "__doc__": kind.__doc__})


# --- loaders that nobody attached -------------------------------------------------------------------------------------

_open: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # iterators of such loaders, and the loaders
_watching: list[bool] = []


def watch_unattached() -> None:
    """Note from now on which loaders are iterated. Once a process."""
    if _watching:
        return
    _watching.append(True)
    iterate = DataLoader.__iter__

    def noted(self: Any) -> Any:
        found = iterate(self)
        if _PLACE not in vars(self) and torch.is_grad_enabled():
            _open[found] = self
        return found

    DataLoader.__iter__ = noted  # type: ignore[method-assign]


def unattached(attached: Collection[Any]) -> str:
    """Return words if a loader is in the middle of an epoch, and nothing that is attached knows of it; else ""."""
    known = {id(each) for each in attached} | {
        id(held) for each in attached for held in getattr(each, "__dict__", {}).values()
    }
    for iterator, loader in list(_open.items()):
        parts = (loader, loader.dataset, loader.sampler, loader.batch_sampler, iterator)
        done = getattr(iterator, "_num_yielded", 0)
        if loader.num_workers and id(loader.sampler) in {id(each) for each in attached}:
            words = (
                "the attached sampler is asked ahead by the DataLoader's workers: after a resume, batches are left out"
            )
            return f"{words}; attach the loader itself: supervisor.attach(data=loader)"
        if 0 < done < _length(loader) and not any(id(each) in known for each in parts):
            words = (
                "a DataLoader is in the middle of its epoch, and no data order is attached: a resume begins its epoch again, "
                "which repeats batches or skips some"
            )
            return f"{words}; attach it: supervisor.attach(data=loader)"
    return ""


def _length(loader: Any) -> float:
    try:
        return len(loader)
    except TypeError:
        return float("inf")
