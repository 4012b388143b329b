"""The position in a prepared DataLoader.

A count of batches, restored through the indices alone, with the generators' states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import BatchSampler, IterableDataset

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.loops.dataloader.rng_states import LoaderRngStates

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResumePoint(NamedTuple):
    """The point at which an epoch resumes: its first ``batches_done`` batches are not read again.

    ``rng_at_epoch_start``: the generators when the epoch began. ``rng_before_read``: before the first remaining batch was read.
    ``rng_at_checkpoint``: at the checkpoint, when that batch had been read already.
    """

    batches_done: int
    rng_at_epoch_start: LoaderRngStates
    rng_before_read: LoaderRngStates
    rng_at_checkpoint: LoaderRngStates


class ReplayBatchSampler(BatchSampler):
    """Replaces a loader's batch sampler: records the generators before each read, and resumes at a stored position.

    On a resume, the caller lets the loader drop the first ``batches_done`` batches of indices (``skip_first_batches``). No
    sample
    of them is read, but the order of the others follows from them.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.rng_before_read: LoaderRngStates | None = None  # before the newest batch was read
        self._resume_point: ResumePoint | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def resume(self, resume_point: ResumePoint) -> None:
        """Draw the resumed epoch next."""
        self._resume_point = resume_point

    def __iter__(self) -> Iterator[Any]:
        resume_point, self._resume_point = self._resume_point, None
        for index, batch in enumerate(self.inner):
            first = resume_point is not None and index == resume_point.batches_done
            if first and resume_point is not None:
                resume_point.rng_before_read.restore()
            if resume_point is None or index >= resume_point.batches_done:
                self.rng_before_read = LoaderRngStates.capture()
            yield batch
            if first and resume_point is not None:
                resume_point.rng_at_checkpoint.restore()


class PreparedLoaderPosition:
    """``epoch`` is the next or current one, and ``batches`` of it are done."""

    def __init__(self, loader: Any, accumulated: int) -> None:
        self.epoch, self.batches = 0, 0
        self.batch_sampler: ReplayBatchSampler | None = _install_replay(loader)
        self._loader, self._batches_per_step = loader, accumulated
        self._rng_at_epoch_start: LoaderRngStates | None = None
        self._rng_before_read: LoaderRngStates | None = None  # of the checkpoint

    def start_epoch(self) -> None:
        """Begin an epoch, whose order is drawn with the next batch."""
        self.batches = 0
        self._rng_at_epoch_start = LoaderRngStates.capture()

    def resume_epoch(self, rng_at_checkpoint: LoaderRngStates) -> None:
        """Resume the epoch after its completed batches. ``rng_at_checkpoint``: the generators at the checkpoint."""
        assert self._rng_at_epoch_start is not None, "a position within an epoch is kept with the epoch's begin"
        self._rng_at_epoch_start.restore()
        if self.batch_sampler is not None:
            self.batch_sampler.resume(
                ResumePoint(
                    self.batches,
                    self._rng_at_epoch_start,
                    self._rng_before_read or rng_at_checkpoint,
                    rng_at_checkpoint,
                )
            )

    def end_epoch(self, next_epoch: int) -> None:
        """Record that the epoch has ended."""
        self.epoch, self.batches = next_epoch, 0

    def warn_if_inexact(self) -> None:
        """Warn if a part of the resumed epoch may differ from an uninterrupted run."""
        if self.batch_sampler is None:
            message = "the data are a stream: what was used of this epoch is read once more to find the place"
        elif self._loader.num_workers:
            message = (
                "chance inside the DataLoader's workers cannot be kept: if the dataset draws it, this epoch differs"
            )
        else:
            return
        trainer_context.current().send(TrainerNote("warning", message))

    def state_dict(self) -> dict[str, Any]:
        """Return the position; within an epoch also the generators' states that determine its order and reads."""
        sampler = _seeded_sampler(self._loader)
        stored = {"epoch": self.epoch, "batches": self.batches, "seed": sampler.initial_seed if sampler else None}
        if self.batches == 0 or self._rng_at_epoch_start is None:
            return stored
        rng_before_read = self.batch_sampler.rng_before_read if self.batch_sampler is not None else None
        return stored | {
            "made_of": self._describe(),
            "begun": self._rng_at_epoch_start.to_stored(),
            "reading": (rng_before_read or self._rng_at_epoch_start).to_stored(),
        }

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Resume there; UsageError if the position belongs to other data."""
        if stored["batches"] and stored["made_of"] != (description := self._describe()):
            raise UsageError(
                f"the checkpoint is in the middle of an epoch of {stored['made_of']}, these data are {description}",
                "use the same data and batch size as when the run began",
            )
        self.epoch, self.batches = stored["epoch"], stored["batches"]
        sampler = _seeded_sampler(self._loader)
        if sampler is not None and stored["seed"] is not None:
            sampler.initial_seed = stored["seed"]
        if self.batches:
            self._rng_at_epoch_start, self._rng_before_read = (
                LoaderRngStates.from_stored(stored["begun"]),
                LoaderRngStates.from_stored(stored["reading"]),
            )

    def _describe(self) -> str:
        try:
            batches: int | None = len(self._loader)
        except TypeError:
            batches = None  # a stream
        return f"{batches} batches, {self._batches_per_step} a step"


def _install_replay(loader: Any) -> ReplayBatchSampler | None:
    """Install a ReplayBatchSampler in an Accelerate loader and return it; None for data without indices."""
    base = getattr(loader, "base_dataloader", loader)
    inner = getattr(base, "batch_sampler", None)
    streams = isinstance(base.dataset, IterableDataset)  # torch gives a stream a meaningless sampler, too
    if inner is None or streams:
        return None
    if isinstance(inner, ReplayBatchSampler):
        return inner
    found = ReplayBatchSampler(inner)
    vars(base)["batch_sampler"] = found  # past the loader's guard, which is against another order; this one is the same
    return found


def _seeded_sampler(loader: Any) -> Any:
    """Return the sampler whose order ``initial_seed`` determines, if the loader has one."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    return sampler if isinstance(getattr(sampler, "initial_seed", None), int) else None
