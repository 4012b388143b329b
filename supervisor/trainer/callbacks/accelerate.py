"""Loops written with Accelerate: all that the Accelerator has prepared is kept, and the epoch goes on at the next batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from accelerate import skip_first_batches

from supervisor.core.errors import SetupError, UsageError
from supervisor.trainer.attach import attach
from supervisor.trainer.callbacks.batches import Chance, Data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accelerate import Accelerator

_KEPT = {"model": "_models", "optimizer": "_optimizers", "scheduler": "_schedulers", "registered": "_custom_objects"}


class AccelerateRun:
    """``run = supervisor.AccelerateRun(accelerator, loader)`` after ``accelerator.prepare()``; it restores at once.

    Then ``for epoch, batches in run.epochs(3):`` and within it ``for batch in batches:``. A step is one step of the optimizer,
    also where ``accelerator.accumulate`` collects several batches for one. What else is in a Run (``log``, ``section``,
    ``step`` …) is here too.
    """

    def __init__(self, accelerator: Accelerator, loader: Any) -> None:
        _refuse(accelerator, loader)
        self._accelerator, self._loader = accelerator, loader
        self._data = Data(loader, accelerator.gradient_accumulation_steps)
        self._is_pending = False  # an epoch's last step was done, and what the script does after it is still to come
        parts = {
            **_prepared(accelerator),
            "progress": _Counter(accelerator),
            "data": self._data,
        }
        self.run = attach(**parts)
        self._resumes_within = self._data.batches > 0

    def __getattr__(self, name: str) -> Any:
        if name == "run":
            raise AttributeError(name)
        return getattr(self.run, name)

    def epochs(self, count: int) -> Iterator[tuple[int, Iterator[Any]]]:
        """Yield the number of each epoch still to do, and its batches still to do; save and end when it is time.

        What the script does after an epoch's batches belongs to the epoch's last step. ``break`` ends the epoch, or all.
        """
        per_epoch = self._steps_per_epoch()
        self.run.begin(count * per_epoch if per_epoch else None, per_epoch)
        now = Chance.now()
        try:
            while self._data.epoch < count:
                epoch = self._data.epoch
                yield epoch, self._batches(epoch, now)
                self._data.ended(epoch + 1)
                if self._is_pending:
                    self._is_pending = False
                    self.run.advance()
        except GeneratorExit:
            self._data.ended(count)
            self.run.step += self._is_pending  # not advance(), because nothing may be raised here
            raise
        finally:
            self.run.end()

    def _batches(self, epoch: int, now: Chance) -> Iterator[Any]:
        loader, data = self._loader, self._data
        if self._resumes_within:
            self._resumes_within = False
            loader = skip_first_batches(loader, data.batches)
            data.resumes(now)
            data.warn_of_inexact()
        else:
            data.begins()
        loader.set_epoch(epoch)
        used = first = data.batches
        try:
            for batch in loader:
                if data.found is None and used == first > 0:
                    now.put_back()  # finding the place has drawn
                yield batch
                used += 1
                if self._accelerator.sync_gradients:
                    self._is_pending = loader.end_of_dataloader
                    if not self._is_pending:
                        data.batches = used
                        self.run.advance()
        except GeneratorExit:
            self._is_pending = self._accelerator.sync_gradients
            raise

    def _steps_per_epoch(self) -> int | None:
        try:
            batches: int = len(self._loader)
        except TypeError:
            return None  # a stream
        accumulated: int = self._accelerator.gradient_accumulation_steps
        return math.ceil(batches / accumulated)


class _Counter:
    """How many batches the Accelerator has seen since the optimizer's last step."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, int]:
        return {"step": self._accelerator.step}

    def load_state_dict(self, kept: dict[str, int]) -> None:
        self._accelerator.step = kept["step"]


def _prepared(accelerator: Accelerator) -> dict[str, Any]:
    found = {}
    for word, name in _KEPT.items():
        owners = getattr(accelerator, name)
        for number, owner in enumerate(owners, 1):
            found[word if len(owners) == 1 else f"{word}_{number}"] = _bare(owner, accelerator)
    if accelerator.scaler is not None:
        found["scaler"] = accelerator.scaler
    return found


def _bare(owner: Any, accelerator: Accelerator) -> Any:
    """Return what is inside Accelerate's wrapper."""
    if hasattr(owner, "forward"):
        return accelerator.unwrap_model(owner)
    return getattr(owner, "optimizer", owner) if type(owner).__name__ == "AcceleratedOptimizer" else owner


def _refuse(accelerator: Accelerator, loader: Any) -> None:
    missing = [name for name in (*_KEPT.values(), "scaler", "sync_gradients", "step") if not hasattr(accelerator, name)]
    if missing:
        raise SetupError(
            f"AccelerateRun does not know this version of Accelerate: its Accelerator has no {missing[0]}",
            "install accelerate 1.15, or attach the objects one by one with supervisor.attach()",
        )
    if accelerator.num_processes > 1:
        raise SetupError(
            f"AccelerateRun keeps one process, this is one of {accelerator.num_processes}",
            "start the script with python, not with torchrun or accelerate launch over several",
        )
    if not hasattr(loader, "end_of_dataloader"):
        raise UsageError(
            "AccelerateRun was given a loader that Accelerate has not prepared",
            "give it what accelerator.prepare(loader) returns",
        )
    if getattr(loader, "use_stateful_dataloader", False):
        raise UsageError(
            "a StatefulDataLoader draws its chance when it is made, so that an epoch could not be found again exactly",
            "leave use_stateful_dataloader out: the position in the data is kept without it",
        )
