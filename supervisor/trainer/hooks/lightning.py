"""Lightning: a callback that ``Trainer.fit`` gets beside the script's own. It receives steps and can request a save."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer.hooks import auto_attach
from supervisor.trainer.hooks.error_guard import guard_methods
from supervisor.trainer.hooks.on_demand_save import OnDemandSave
from supervisor.trainer.hooks.save_tracker import track_saves
from supervisor.trainer.hooks.unmodified_script import LOSS
from supervisor.trainer.hooks.writer_functions import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

EPOCH_LOOP_FILE = "training_epoch_loop.py"
SHARE_OF_GRACE = 0.5  # of the time that is left, for the rest of an epoch and its save


def install(module: ModuleType, script: UnmodifiedScript) -> None:
    """Track ``fit`` and ``save_checkpoint``."""
    trainer = module.Trainer
    base = sys.modules[module.__name__.removesuffix("trainer.trainer") + "callbacks"].Callback
    observer = _callback(base, script)
    fit = trainer.fit

    @wraps(fit)
    def fit_with_callback(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not script.silent and not any(isinstance(each, observer) for each in self.callbacks):
            self.callbacks.insert(0, observer())  # because checkpoints are to be the last
        return fit(self, *args, **kwargs)

    trainer.fit = fit_with_callback
    auto_attach.join_lightning(module, script)
    track_saves(script, trainer, "save_checkpoint", by_argument("filepath"))


class EpochCutDetector:
    """Detects that an epoch was ended by a StopIteration that is not Lightning's own."""

    is_unexplained = False

    def watch(self, advance: Callable[[], Any]) -> Any:
        """Run one batch. Lightning takes any StopIteration for the end of the epoch.

        Lightning's own means that ``on_train_batch_start`` returned -1, which is how a script requests it.
        """
        try:
            return advance()
        except StopIteration as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            code = None if trace is None else trace.tb_frame.f_code
            requested = code is not None and code.co_name == "advance" and code.co_filename.endswith(EPOCH_LOOP_FILE)
            self.is_unexplained = self.is_unexplained or not requested
            raise


def ended_short_message(step: int, total: int) -> str:
    """Return the warning for a fit that ended too early."""
    return (
        f"fit() ended at step {step:,} of {total:,}, and nothing asked for that (trainer.should_stop is not set): "
        "the data ran out, or a StopIteration came out of the script's own code"
    )


class _Training:
    """A call of ``fit``; steps are the Trainer's own ``global_step``."""

    def __init__(self, script: UnmodifiedScript, trainer: Any) -> None:
        self._script, self._trainer = script, trainer
        self._request = OnDemandSave()
        self._ends_with_epoch = False
        total = trainer.estimated_stepping_batches
        script.on_loop_start(self, trainer.global_step, total if isinstance(total, int) and total > 0 else None)
        self._cut_detector = EpochCutDetector()
        epoch_loop = trainer.fit_loop.epoch_loop
        original = epoch_loop.advance
        epoch_loop.advance = lambda *args: self._cut_detector.watch(lambda: original(*args))

    def on_step(self, loss: Any, batch_index: int) -> None:
        """Count a batch, and with it a step, unless gradients still accumulate."""
        script, trainer = self._script, self._trainer
        if loss is not None:
            script.values[LOSS] = loss
        batches = trainer.num_training_batches
        script.epoch = trainer.current_epoch + (batch_index + 1) / batches if batches else None
        if trainer.global_step > script.step:
            script.on_step(trainer.global_step)
        if (self._request.save or self._request.end) and not self._ends_with_epoch:
            self._save()

    def on_train_end(self) -> None:
        """Leave the loop; warn if an epoch was cut short and steps remain."""
        vars(self._trainer.fit_loop.epoch_loop).pop("advance", None)
        step, total = self._script.step, self._script.total_steps
        requested = self._trainer.should_stop or not self._cut_detector.is_unexplained
        if total is not None and step < total and not requested and not self._script.silent:
            self._script.send(TrainerNote("warning", ended_short_message(step, total)))
        self._script.on_loop_end()

    def on_epoch_start(self) -> None:
        """End the script here if that was requested: the saves of the last epoch are done."""
        if self._ends_with_epoch:
            self._script.stop()

    @property
    def saves_on_request(self) -> bool:
        """The data can resume within an epoch; otherwise Lightning's own saves are better."""
        return self._folder is not None and self._resumes_mid_epoch

    def request_save(self) -> None:
        """Save after this batch, if that is worth it."""
        self._request.save = self.saves_on_request

    def request_end(self, grace_s: float) -> bool:
        """Save and end: at the end of the epoch if that comes in time, else after this batch."""
        if self._folder is None:
            return False
        self._ends_with_epoch = not self._resumes_mid_epoch and self._rest_s < SHARE_OF_GRACE * grace_s
        self._request.end = True
        return True

    @property
    def _folder(self) -> str | None:
        checkpoint = self._trainer.checkpoint_callback
        return None if checkpoint is None else checkpoint.dirpath

    @property
    def _resumes_mid_epoch(self) -> bool:
        return hasattr(self._trainer.train_dataloader, "load_state_dict")

    @property
    def _rest_s(self) -> float:
        progress, step_s = self._trainer.fit_loop.epoch_loop.batch_progress, self._script.step_s
        batches = self._trainer.num_training_batches - progress.current.ready
        return batches * step_s / max(1, self._trainer.accumulate_grad_batches) if step_s is not None else float("inf")

    def _save(self) -> None:
        trainer, request, folder = self._trainer, self._request, self._folder
        if folder is None:
            return
        path = str(Path(folder, f"asked-epoch={trainer.current_epoch}-step={trainer.global_step}.ckpt"))
        trainer.save_checkpoint(path)
        request.save = False
        request.on_saved(path, requested=True)
        if request.end:
            if not self._resumes_mid_epoch:
                message = (
                    "Lightning goes on after this step, but its data loader cannot: it begins the epoch's data again"
                )
                self._script.send(TrainerNote("warning", message))
            self._script.stop()


def _callback(base: Any, script: UnmodifiedScript) -> Any:
    """Return a callback class over the script's own ``Callback``, of ``lightning`` or of ``pytorch_lightning``."""

    class LightningObserver(base):
        """Sends on what the Trainer tells; it has no state, so that checkpoints are as without it."""

        training: _Training

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training = _Training(script, trainer)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training.on_epoch_start()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
            if not script.silent:
                self.training.on_step(outputs.get("loss") if isinstance(outputs, dict) else outputs, batch_idx)

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            script.enter("eval")

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            script.enter("step" if script.loop is not None else "start")

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training.on_train_end()

    return guard_methods(script, LightningObserver)
