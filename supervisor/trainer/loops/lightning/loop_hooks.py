"""Patches of Lightning's loops: the point at which a step with all its follow-up work is done, and the point of a resume.

Lightning's own callback hooks run before validation, schedulers and counts, or after the fetch of the next batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.errors import UsageError
from supervisor.trainer.hooks.lightning import EpochCutDetector

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.loops.lightning.data_position import LightningDataPosition

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


class StepHooks(Protocol):
    """Receives the steps."""

    @property
    def resumed(self) -> bool:
        """A checkpoint was restored."""

    def begin(self, trainer: Any) -> None:
        """The first step comes next."""

    def advance(self, trainer: Any) -> None:
        """One step is done."""

    def end(self, trainer: Any) -> None:
        """No step is left."""


class LoopPatches:
    """Installed in one trainer's loops until ``undo``. ``mid_epoch``: the current boundary lies within an epoch."""

    def __init__(self, trainer: Any, data: LightningDataPosition, hooks: StepHooks) -> None:
        self.mid_epoch = False
        self._trainer, self._data, self._hooks = trainer, data, hooks
        self._fit, self._epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        self.cut_detector = EpochCutDetector()
        self._begun = False
        self._resuming_epoch = False  # a resumed epoch, whose counts are all in place
        self._epoch_end_pending = False  # the last step of an epoch is done, the epoch's end is not
        self._patched: list[tuple[Any, str]] = []
        for owner, name, replacement in (
            (self._fit, "run", self._run),
            (self._fit, "_load_combined_loader_states", self._load_loaders),
            (self._fit, "on_advance_start", self._on_epoch_start),
            (self._fit, "on_advance_end", self._on_epoch_end),
            (self._fit, "on_run_end", self._on_fit_end),
            (self._epoch, "reset", self._reset_epoch),
            (self._epoch, "advance", self.cut_detector.watch),
            (self._epoch, "on_advance_end", self._on_batch_end),
        ):
            self._patch(owner, name, replacement)
        if self._fit._combined_loader is not None:  # noqa: SLF001  # made early: trainer.estimated_stepping_batches does that
            self._take_loaders()
            iter(self._fit._data_fetcher)  # noqa: SLF001  # again, because it has an iterator of the original sampler

    def undo(self) -> None:
        """Remove all patches, also those of the script's loaders."""
        for owner, name in self._patched:
            vars(owner).pop(name, None)
        self._patched = []
        self._data.uninstall()

    def _patch(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, lambda *given: replacement(lambda: original(*given)))
        self._patched.append((owner, name))

    # --- each is given the usual method -----------------------------------------------------------------------------

    def _run(self, original: Callable[[], None]) -> None:
        original()
        if self._hooks.resumed and not self._begun:  # every step was done: what comes after the last is still to do
            self._fit.on_run_start()
            self._begin()
            self._fit.on_run_end()

    def _load_loaders(self, original: Callable[[], None]) -> None:
        self._take_loaders()
        original()

    def _take_loaders(self) -> None:
        self._refuse_iterators()
        self._data.set_loaders(self._fit._combined_loader)  # noqa: SLF001  # there is no public one

    def _on_epoch_start(self, original: Callable[[], None]) -> None:
        if self._begun:
            original()
        elif self._data.resumes_mid_epoch():
            original()  # sets the samplers' epoch; the hooks of an epoch's start were called when it started
            self._begin()
        else:
            self._begin()
            original()

    def _begin(self) -> None:
        self._begun = True
        if self._hooks.resumed:
            _mark_iteration_done(self._fit)
        if self._data.resume():
            self.mid_epoch = self._resuming_epoch = True
            iter(self._fit._data_fetcher)  # noqa: SLF001  # as on_run_start() of the epoch's loop does
            self._fit._resuming_from_checkpoint = True  # noqa: SLF001  # so that it does not do so again
        self._hooks.begin(self._trainer)

    def _reset_epoch(self, original: Callable[[], None]) -> None:
        if not self._resuming_epoch:
            original()
        self._resuming_epoch = False

    def _on_batch_end(self, original: Callable[[], None]) -> None:
        original()
        if self._epoch._should_accumulate():  # noqa: SLF001  # there is no public one
            return  # gradients wait for more batches
        self._epoch_end_pending = self._epoch.done
        if not self._epoch_end_pending:
            self._boundary(mid_epoch=True)

    def _on_epoch_end(self, original: Callable[[], None]) -> None:
        original()
        if self._epoch_end_pending:
            self._epoch_end_pending = False
            self._boundary(mid_epoch=False)

    def _boundary(self, *, mid_epoch: bool) -> None:
        self.mid_epoch = mid_epoch
        self._hooks.advance(self._trainer)

    def _on_fit_end(self, original: Callable[[], None]) -> None:
        self._hooks.end(self._trainer)  # before on_train_end, which is called again by a resume that has no step left
        original()

    def _refuse_iterators(self) -> None:
        step = self._trainer.lightning_module.training_step
        code = getattr(getattr(step, "__func__", step), "__code__", None)
        if code is not None and "dataloader_iter" in code.co_varnames[: code.co_argcount]:
            raise UsageError(
                "training_step(dataloader_iter) takes its batches itself, so their position cannot be kept",
                "use training_step(batch, batch_idx)",
            )


def lengths(trainer: Any, step: int) -> tuple[int | None, int | None]:
    """Return the steps over all attempts and the steps of an epoch, None if unknown; ``step`` are done."""
    batches, progress = trainer.num_training_batches, trainer.fit_loop.epoch_loop.batch_progress
    epoch_steps = None if math.isinf(batches) else math.ceil(batches / trainer.accumulate_grad_batches)
    if trainer.lightning_module.automatic_optimization:
        steps = trainer.estimated_stepping_batches
        return (None if math.isinf(steps) or steps < 0 else step + int(steps) - trainer.global_step), epoch_steps
    endless = epoch_steps is None or trainer.max_steps != -1 or trainer.max_epochs in (None, -1)
    return (None if endless else step + batches * trainer.max_epochs - progress.total.ready), epoch_steps


def require_known_version(trainer: Any) -> None:
    """Raise UsageError for a Lightning that lacks a needed name."""
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
            "use Lightning 2.5.3 to 2.6, or keep Lightning's own checkpoints: start --watch-dir",
        )


def _has(owner: Any, name: str) -> bool:
    return name in vars(owner) or hasattr(type(owner), name) if owner is not None else False


def _mark_iteration_done(loop: Any) -> None:
    """Mark a loop and its inner loops as between two iterations, because Lightning's restart assumes other places."""
    loop.on_iteration_done()
    for inner in vars(loop).values():
        if hasattr(inner, "on_iteration_done"):
            _mark_iteration_done(inner)
