"""Where a fit is in its data: epoch, batch, and how often the data were gone through; kept as numbers, found again at once.

It stands in for the part of Keras's epoch iterator that numbers batches, because Keras always begins an epoch at batch 0.
"""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.errors import UsageError
from supervisor.trainer.callbacks import keras_sources
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.trainer.callbacks.keras import KerasCallback

SEED_BITS = 32


class Data:
    """Attached. ``batch`` batches of ``epoch`` are done or under way; ``seen`` is the same for a pass over the data."""

    def __init__(self, iterator: Any, callback: KerasCallback) -> None:
        self.epoch = self.batch = 0
        self.stopped = False
        self._iterator, self._callback = iterator, callback
        self._passes = self._seen = 0
        self._execution: int = iterator.steps_per_execution
        self._source = keras_sources.of(iterator, random.getrandbits(SEED_BITS))
        self._waiting: Any = None
        self._under_way = False

    def take_over(self) -> None:
        """From now on Keras gets its batches from here."""
        self._iterator._enumerate_iterator = self._batches
        self._iterator._current_iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the order and the position in it follow from; RefusedError within a step, which nothing can be kept of."""
        if self._under_way:
            raise RefusedError("data", "fit was left within a step", "it goes on from the checkpoint before")
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "passes": self._passes,
            "seen": self._seen,
            "pass_batches": self._iterator._num_batches,
            "stopped": self.stopped,
            "steps_per_execution": self._execution,
            "kind": self._source.kind,
            "order": self._source.order(),
            "source": self._waiting if self._waiting is not None else self._source.state(mid_pass=bool(self._seen)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there; ValueError if these data cannot be the same."""
        kind = self._source.kind
        if state["kind"] != kind:
            raise ValueError(f"the data were of the kind {state['kind']} and are {kind}")
        self._source.set_order(state["order"])
        for name, here in (
            ("steps_per_execution", self._execution),
            ("pass_batches", self._iterator._num_batches or state["pass_batches"]),
        ):
            if state[name] != here:
                raise ValueError(f"{name} was {state[name]} and is {here}")
        self.epoch, self.batch, self.stopped = state["epoch"], state["batch"], state["stopped"]
        self._passes, self._seen, self._waiting = state["passes"], state["seen"], state["source"]
        self._iterator._num_batches = state["pass_batches"]

    def epoch_is_done(self) -> None:
        """The next epoch begins at its first batch."""
        self.epoch, self.batch, self._under_way = self.epoch + 1, 0, False

    def skip_steps(self, steps: int) -> None:
        """Read the batches of so many steps without use."""
        if keras.backend.backend() != "torch":  # there they are read before the step begins
            for _ in range(steps * self._execution):
                next(self._iterator._current_iterator, None)

    @property
    def steps_in_epoch(self) -> int | None:
        """Executions that make an epoch; None where it is not known."""
        batches = self._iterator.steps_per_epoch or self._iterator._num_batches
        return -(-batches // self._execution) if batches else None

    def _batches(self) -> Iterator[tuple[int, int, Any]]:
        it, size = self._iterator, self._execution
        if it.steps_per_epoch is None and not self.batch:
            self._end_pass()
        self._begin_epoch()
        self._open()
        it.data_adapter.on_epoch_begin()
        limit = it.steps_per_epoch or it._num_batches
        self._callback.first_batch_comes()
        while limit is None or self.batch < limit:
            if self._pass_is_done:
                it._interrupted_warning()
                break
            begin = self.batch
            it._steps_seen = self._seen  # if nothing comes now, this is how many there are
            self.batch += size
            self._seen += size
            self._under_way = True
            self._callback.step_comes()
            yield begin, self.batch - 1, it._current_iterator
            if (limit is None or self.batch < limit) and not self._pass_is_done:
                self._under_way = False
                self._callback.step_is_done()  # of the last one in an epoch, the end of the epoch is part
        if self._pass_is_done:
            self._end_pass()
        it.data_adapter.on_epoch_end()

    @property
    def _pass_is_done(self) -> bool:
        return bool(self._iterator._num_batches) and self._seen >= self._iterator._num_batches

    def _end_pass(self) -> None:
        if self._seen:
            self._passes, self._seen = self._passes + 1, 0
        self._iterator._current_iterator = None

    def _begin_epoch(self) -> None:
        """Have the data begin an epoch. Their kept state is of before that at its first batch, and of after that within it."""
        if not self.batch:
            self._source.put_back(self._waiting)
        self._source.epoch_begins()
        if self.batch:
            self._source.put_back(self._waiting)

    def _open(self) -> None:
        if self._iterator._current_iterator is None:
            waiting, self._waiting = self._waiting, None
            self._iterator._current_iterator = self._source.opened(self._passes, self._seen, waiting)


def iterator_of(fit: Any) -> Any:
    """Return the epoch iterator of a call of ``fit``; UsageError if it is none that can be followed."""
    iterator = fit.f_locals.get("epoch_iterator")
    needed = (
        "_enumerate_iterator",
        "_current_iterator",
        "_num_batches",
        "_get_iterator",
        "steps_per_epoch",
        "data_adapter",
    )
    missing = [name for name in needed if not hasattr(iterator, name)]
    if missing:
        raise UsageError(
            f"this version of Keras makes its batches in another way (its epoch iterator has no {missing[0]})",
            "use Keras 3.15, or keep the script's own saves with start --watch",
        )
    return iterator
