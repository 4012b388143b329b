"""The seams in Lightning's loops: where a step with all that follows it is over, and where a resumed fit goes on.

Its hooks for callbacks lie in front of validation, of the schedulers and of the counts, or behind the next batch's fetch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.errors import UsageError
from supervisor.trainer.hooks.lightning import Cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.callbacks.lightning_data import Data

FIT_LOOP = (
    "on_advance_start", "on_advance_end", "on_run_start", "on_run_end", "on_iteration_done", "setup_data", "run",
    "_load_combined_loader_states", "_last_train_dl_reload_epoch", "is_resuming", "load_state_dict", "epoch_loop",
)  # fmt: skip
EPOCH_LOOP = (
    "reset", "advance", "on_advance_end", "on_iteration_done", "_should_accumulate", "_results", "batch_progress", "done",
    "val_loop", "automatic_optimization", "manual_optimization",
)  # fmt: skip
CONNECTOR = (
    "dump_checkpoint", "restore_model", "restore_datamodule", "restore_callbacks", "restore_training_state",
    "resume_end", "_loaded_checkpoint",
)  # fmt: skip
LOGGED = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics", "_current_fx", "_first_loop_iter")


class Driven(Protocol):
    """Who is told of the steps."""

    @property
    def resumed(self) -> bool:
        """A checkpoint was put back."""

    def begin(self, trainer: Any) -> None:
        """The first step comes next."""

    def advance(self, trainer: Any) -> None:
        """One step is done."""

    def end(self, trainer: Any) -> None:
        """No step is left."""


class Seams:
    """In the loops of one trainer until ``undo``. ``mid_epoch``: the present boundary lies within an epoch."""

    def __init__(self, trainer: Any, data: Data, driven: Driven) -> None:
        self.mid_epoch = False
        self._trainer, self._data, self._driven = trainer, data, driven
        self._fit, self._epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        self.cut = Cut()
        self._begun = False
        self._entering = False  # a resumed epoch, whose counts are all in place
        self._ended_epoch = False  # the last step of an epoch is done, the epoch's end is not
        self._placed: list[tuple[Any, str]] = []
        for owner, name, around in (
            (self._fit, "run", self._run),
            (self._fit, "_load_combined_loader_states", self._load_loaders),
            (self._fit, "on_advance_start", self._epoch_starts),
            (self._fit, "on_advance_end", self._epoch_ends),
            (self._fit, "on_run_end", self._fit_ends),
            (self._epoch, "reset", self._reset_epoch),
            (self._epoch, "advance", self.cut.watch),
            (self._epoch, "on_advance_end", self._batch_ends),
        ):
            self._place(owner, name, around)
        if self._fit._combined_loader is not None:  # noqa: SLF001  # made early: trainer.estimated_stepping_batches does that
            self._take_loaders()
            iter(self._fit._data_fetcher)  # noqa: SLF001  # anew, because it has an iterator of the usual sampler

    def undo(self) -> None:
        """Take everything out again, also of the script's loaders."""
        for owner, name in self._placed:
            vars(owner).pop(name, None)
        self._placed = []
        self._data.give_back()

    def _place(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        usual = getattr(owner, name)
        setattr(owner, name, lambda *given: around(lambda: usual(*given)))
        self._placed.append((owner, name))

    # --- each is given the usual method -----------------------------------------------------------------------------

    def _run(self, usual: Callable[[], None]) -> None:
        usual()
        if self._driven.resumed and not self._begun:  # every step was done: what comes after the last is still to do
            self._fit.on_run_start()
            self._begin()
            self._fit.on_run_end()

    def _load_loaders(self, usual: Callable[[], None]) -> None:
        self._take_loaders()
        usual()

    def _take_loaders(self) -> None:
        self._refuse_iterators()
        self._data.take(self._fit._combined_loader)  # noqa: SLF001  # there is no public one

    def _epoch_starts(self, usual: Callable[[], None]) -> None:
        if self._begun:
            usual()
        elif self._data.waits_within_an_epoch():
            usual()  # sets the samplers' epoch; the hooks of an epoch's start were called when it started
            self._begin()
        else:
            self._begin()
            usual()

    def _begin(self) -> None:
        self._begun = True
        if self._driven.resumed:
            _settle(self._fit)
        if self._data.put_back():
            self.mid_epoch = self._entering = True
            iter(self._fit._data_fetcher)  # noqa: SLF001  # as on_run_start() of the epoch's loop does
            self._fit._resuming_from_checkpoint = True  # noqa: SLF001  # lest it does so again
        self._driven.begin(self._trainer)

    def _reset_epoch(self, usual: Callable[[], None]) -> None:
        if not self._entering:
            usual()
        self._entering = False

    def _batch_ends(self, usual: Callable[[], None]) -> None:
        usual()
        if self._epoch._should_accumulate():  # noqa: SLF001  # there is no public one
            return  # gradients wait for more batches
        self._ended_epoch = self._epoch.done
        if not self._ended_epoch:
            self._boundary(mid_epoch=True)

    def _epoch_ends(self, usual: Callable[[], None]) -> None:
        usual()
        if self._ended_epoch:
            self._ended_epoch = False
            self._boundary(mid_epoch=False)

    def _boundary(self, *, mid_epoch: bool) -> None:
        self.mid_epoch = mid_epoch
        self._driven.advance(self._trainer)

    def _fit_ends(self, usual: Callable[[], None]) -> None:
        self._driven.end(self._trainer)  # before on_train_end, which is called again by a resume that has no step left
        usual()

    def _refuse_iterators(self) -> None:
        step = self._trainer.lightning_module.training_step
        code = getattr(getattr(step, "__func__", step), "__code__", None)
        if code is not None and "dataloader_iter" in code.co_varnames[: code.co_argcount]:
            raise UsageError(
                "training_step(dataloader_iter) takes its batches itself, so their position cannot be kept",
                "use training_step(batch, batch_idx)",
            )


def lengths(trainer: Any, step: int) -> tuple[int | None, int | None]:
    """Return steps over all attempts and steps of an epoch, None where not known; ``step`` are done."""
    batches, progress = trainer.num_training_batches, trainer.fit_loop.epoch_loop.batch_progress
    epoch_steps = None if math.isinf(batches) else math.ceil(batches / trainer.accumulate_grad_batches)
    if trainer.lightning_module.automatic_optimization:
        steps = trainer.estimated_stepping_batches
        return (None if math.isinf(steps) or steps < 0 else step + int(steps) - trainer.global_step), epoch_steps
    endless = epoch_steps is None or trainer.max_steps != -1 or trainer.max_epochs in (None, -1)
    return (None if endless else step + batches * trainer.max_epochs - progress.total.ready), epoch_steps


def refuse_unknown(trainer: Any) -> None:
    """UsageError for a Lightning in which something that is needed has another name."""
    fit_loop = trainer.fit_loop
    owners = {
        "fit_loop": (fit_loop, FIT_LOOP),
        "fit_loop.epoch_loop": (getattr(fit_loop, "epoch_loop", None), EPOCH_LOOP),
        "_checkpoint_connector": (getattr(trainer, "_checkpoint_connector", None), CONNECTOR),
        "_logger_connector": (getattr(trainer, "_logger_connector", None), LOGGED),
    }
    missing = [f"{path}.{name}" for path, (owner, names) in owners.items() for name in names if not _has(owner, name)]
    if missing:
        raise UsageError(
            f"this version of Lightning has no trainer.{missing[0]}, which supervisor.LightningCallback needs",
            "use Lightning 2.5.3 to 2.6, or keep Lightning's own checkpoints: start --watch",
        )


def _has(owner: Any, name: str) -> bool:
    return name in vars(owner) or hasattr(type(owner), name) if owner is not None else False


def _settle(loop: Any) -> None:
    """Have a loop and those within it go on as if they had come here by themselves: Lightning's restart is of other places."""
    loop.on_iteration_done()
    for inner in vars(loop).values():
        if hasattr(inner, "on_iteration_done"):
            _settle(inner)
