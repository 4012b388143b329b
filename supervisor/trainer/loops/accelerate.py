"""Loops written with Accelerate.

Everything that the Accelerator has prepared is saved, and a resume starts at the next batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from accelerate import skip_first_batches

from supervisor.core.errors import SetupError, UsageError
from supervisor.trainer.attach import attach
from supervisor.trainer.loops.dataloader.position import PreparedLoaderPosition
from supervisor.trainer.loops.dataloader.rng_states import LoaderRngStates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accelerate import Accelerator

_ATTACHED_PARTS = {
    "model": "_models",
    "optimizer": "_optimizers",
    "scheduler": "_schedulers",
    "registered": "_custom_objects",
}


class AccelerateRun:
    """``run = supervisor.AccelerateRun(accelerator, loader)`` after ``accelerator.prepare()``. It restores at once.

    Then ``for epoch, batches in run.epochs(3):`` and within it ``for batch in batches:``. A step is one optimizer step, also
    where
    ``accelerator.accumulate`` collects several batches. The members of a Run (``log``, ``section``, ``step`` …) are here too.

    Args of the constructor:
        accelerator: the Accelerator that has prepared the objects.
        loader: the prepared DataLoader of the training data.

    Raises:
        SetupError: this Accelerate is unknown, or there are several processes.
        UsageError: the loader is not prepared, or is a StatefulDataLoader.
    """

    def __init__(self, accelerator: Accelerator, loader: Any) -> None:
        _require_supported(accelerator, loader)
        self._accelerator, self._loader = accelerator, loader
        self._data = PreparedLoaderPosition(loader, accelerator.gradient_accumulation_steps)
        self._epoch_end_pending = (
            False  # an epoch's last step was done, and what the script does after it is still to come
        )
        parts = {
            **_prepared_parts(accelerator),
            "progress": _Counter(accelerator),
            "data": self._data,
        }
        self.run = attach(**parts)
        self._resumes_mid_epoch = self._data.batches > 0

    def __getattr__(self, name: str) -> Any:
        if name == "run":
            raise AttributeError(name)
        return getattr(self.run, name)

    def epochs(self, count: int) -> Iterator[tuple[int, Iterator[Any]]]:
        """Yield the number of each remaining epoch with its remaining batches; save and stop at the boundaries.

        Code after an epoch's batches belongs to the epoch's last step. ``break`` ends the epoch, or all epochs.

        Args:
            count: the number of epochs over all attempts.
        """
        per_epoch = self._steps_per_epoch()
        self.run.begin(count * per_epoch if per_epoch else None, per_epoch)
        saved_rng = LoaderRngStates.capture()
        try:
            while self._data.epoch < count:
                epoch = self._data.epoch
                yield epoch, self._batches(epoch, saved_rng)
                self._data.end_epoch(epoch + 1)
                if self._epoch_end_pending:
                    self._epoch_end_pending = False
                    self.run.advance()
        except GeneratorExit:
            self._data.end_epoch(count)
            self.run.step += self._epoch_end_pending  # not advance(), because nothing may be raised here
            raise
        finally:
            self.run.end()

    def _batches(self, epoch: int, saved_rng: LoaderRngStates) -> Iterator[Any]:
        loader, data = self._loader, self._data
        if self._resumes_mid_epoch:
            self._resumes_mid_epoch = False
            loader = skip_first_batches(loader, data.batches)
            data.resume_epoch(saved_rng)
            data.warn_if_inexact()
        else:
            data.start_epoch()
        loader.set_epoch(epoch)
        used = first = data.batches
        try:
            for batch in loader:
                if data.batch_sampler is None and used == first > 0:
                    saved_rng.restore()  # reading up to the position has drawn
                yield batch
                used += 1
                if self._accelerator.sync_gradients:
                    self._epoch_end_pending = loader.end_of_dataloader
                    if not self._epoch_end_pending:
                        data.batches = used
                        self.run.advance()
        except GeneratorExit:
            self._epoch_end_pending = self._accelerator.sync_gradients
            raise

    def _steps_per_epoch(self) -> int | None:
        try:
            batches: int = len(self._loader)
        except TypeError:
            return None  # a stream
        accumulated: int = self._accelerator.gradient_accumulation_steps
        return math.ceil(batches / accumulated)


class _Counter:
    """The number of batches since the optimizer's last step, as the Accelerator counts them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, int]:
        return {"step": self._accelerator.step}

    def load_state_dict(self, stored: dict[str, int]) -> None:
        self._accelerator.step = stored["step"]


def _prepared_parts(accelerator: Accelerator) -> dict[str, Any]:
    found = {}
    for word, name in _ATTACHED_PARTS.items():
        owners = getattr(accelerator, name)
        for number, owner in enumerate(owners, 1):
            found[word if len(owners) == 1 else f"{word}_{number}"] = _unwrapped(owner, accelerator)
    if accelerator.scaler is not None:
        found["scaler"] = accelerator.scaler
    return found


def _unwrapped(owner: Any, accelerator: Accelerator) -> Any:
    """Return the object inside Accelerate's wrapper."""
    if hasattr(owner, "forward"):
        return accelerator.unwrap_model(owner)
    return getattr(owner, "optimizer", owner) if type(owner).__name__ == "AcceleratedOptimizer" else owner


def _require_supported(accelerator: Accelerator, loader: Any) -> None:
    missing = [
        name
        for name in (*_ATTACHED_PARTS.values(), "scaler", "sync_gradients", "step")
        if not hasattr(accelerator, name)
    ]
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
