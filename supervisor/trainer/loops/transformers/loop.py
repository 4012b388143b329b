"""The patched methods of a Trainer's loop: the end of a step, and the point at which an epoch resumes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import transformers

from supervisor.core.errors import SetupError, UsageError
from supervisor.trainer import context as trainer_context
from supervisor.trainer.attach import attach
from supervisor.trainer.loops import best_files
from supervisor.trainer.loops.dataloader.position import PreparedLoaderPosition
from supervisor.trainer.loops.dataloader.rng_states import LoaderRngStates
from supervisor.trainer.loops.transformers.state import TrainerCallbackStates, TrainerProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import Trainer

    from supervisor.trainer.run import Run

# The methods of Trainer that are wrapped, and the arguments that are looked at.
_WRAPPED_METHODS = {
    "_init_training_state": {"max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint"},
    "_run_epoch": {
        "epoch", "epochs_trained", "steps_trained_in_current_epoch", "resume_from_checkpoint", "train_dataloader",
    },
    "_maybe_log_save_evaluate": set(),
    "_load_rng_state": set(),
    "_evaluate": set(),
    "_save_checkpoint": set(),
}  # fmt: skip


class TrainerLoop:
    """One Trainer's loop. An epoch's last step is done when the Trainer has done all its work at the epoch's end."""

    def __init__(self, trainer: Trainer) -> None:
        self.is_attached = False
        self.run: Run
        self._trainer = trainer
        self._data: PreparedLoaderPosition
        self._steps_of_epoch = 0  # how many there are
        self._epochs = 0
        self._max_steps = 0
        self._steps_done = 0  # of the present epoch
        self._data_ran_out = False  # an epoch had no batch, so that Trainer itself stops
        self._last_step = 0
        self._begun = self._ended = self._in_epoch = False
        self._resumes_mid_epoch = False
        self._saved_rng: LoaderRngStates | None = None
        _require_supported(trainer)
        replacements: dict[str, Callable[..., Any]] = {
            "_init_training_state": self._init_training_state,
            "_run_epoch": self._run_epoch,
            "_maybe_log_save_evaluate": self._maybe_log_save_evaluate,
            "_load_rng_state": self._load_rng_state,
            "_evaluate": self._evaluate,
            "_save_checkpoint": self._save_checkpoint,
        }
        for name, replacement in replacements.items():
            _wrap(trainer, name, replacement)

    @property
    def first_epoch(self) -> int:
        """The epoch in which training resumes."""
        return self._data.epoch

    def attach(self, loader: Any) -> None:
        """Attach everything, which also restores it: all objects exist now."""
        trainer = self._trainer
        self._data = PreparedLoaderPosition(loader, trainer.args.gradient_accumulation_steps)
        parts = {
            "model": trainer.model,
            "optimizer": getattr(trainer.optimizer, "optimizer", trainer.optimizer),
            "scheduler": trainer.lr_scheduler,
            "scaler": trainer.accelerator.scaler,
            "callbacks": TrainerCallbackStates(trainer, trainer_context.current().send),
            "progress": TrainerProgress(trainer),
            "data": self._data,
        }
        self.run = attach(**{name: part for name, part in parts.items() if part is not None})
        self.run.companions.add(lambda: best_files.of_transformers(trainer))
        self.is_attached = True
        self._resumes_mid_epoch = self._data.batches > 0
        self._last_step = self.run.step
        trainer.args.ignore_data_skip = False  # no data are read for skipping here
        if self.run.resumed and self._resumes_mid_epoch:
            self._data.warn_if_inexact()

    def begin(self) -> None:
        """Begin an epoch; the first one begins the run's loop."""
        if self._begun:
            return
        self._begun = True
        self.run.begin(self._max_steps, self._steps_of_epoch or None)
        self._saved_rng = LoaderRngStates.capture()

    def end(self) -> None:
        """End the run's loop: no further step will be done."""
        if not self._ended:
            self._ended = True
            self.run.end(early=self._trainer.control.should_training_stop and not self._data_ran_out)

    # --- what is called instead of the Trainer's methods ----------------------------------------------------------

    def _init_training_state(self, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        given = inspect.signature(original).bind(*args, **named).arguments
        if given["resume_from_checkpoint"] is not None:
            raise UsageError(
                "train() was called with resume_from_checkpoint, but TransformersCallback resumes by itself",
                "call trainer.train() without it; to begin with published weights, load them into the model",
            )
        self._max_steps, self._epochs = given["max_steps"], given["num_train_epochs"]
        self._steps_of_epoch = given["num_update_steps_per_epoch"]
        original(*args, **named)
        return _FirstEpoch(self), 0

    def _run_epoch(self, original: Callable[..., Any], **named: Any) -> None:
        epoch, data = named["epoch"], self._data
        if self._resumes_mid_epoch:
            self._steps_done = data.batches // self._trainer.args.gradient_accumulation_steps
            assert self._saved_rng is not None, "on_epoch_begin comes first"
            data.resume_epoch(self._saved_rng)
            named |= {
                "epochs_trained": epoch,
                "steps_trained_in_current_epoch": data.batches,
                "resume_from_checkpoint": "",
            }
            self._resumes_mid_epoch = False
        else:
            self._steps_done = 0
            data.start_epoch()
        self._in_epoch = True
        original(**named)
        self._in_epoch = False
        over = self._trainer.control.should_training_stop
        self._data_ran_out = over and not self._steps_done
        data.end_epoch(self._epochs if over else epoch + 1)
        self._advance()
        if over or epoch + 1 == self._epochs:
            self.end()

    def _maybe_log_save_evaluate(self, original: Callable[..., Any], *args: Any, **named: Any) -> None:
        original(*args, **named)
        if self._trainer.state.global_step == self._last_step:
            return  # the end of an epoch
        self._last_step = self._trainer.state.global_step
        self._steps_done += 1
        control = self._trainer.control
        if self._steps_done != self._steps_of_epoch and not (control.should_epoch_stop or control.should_training_stop):
            self._data.batches = self._steps_done * self._trainer.args.gradient_accumulation_steps
            self._advance()

    def _load_rng_state(self, original: Callable[..., Any], checkpoint: str | None) -> None:
        """Restore the generators when the Trainer wants to: after the first batches of a resumed epoch were read."""
        if not self.is_attached:
            original(checkpoint)
        elif self._data.batch_sampler is None and self._saved_rng is not None:
            self._saved_rng.restore()

    def _evaluate(self, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if not self._in_epoch and self.run.resumed:
            return {}  # eval_on_start: it was done when the run began
        with self.run.section("eval"):
            return original(*args, **named)

    def _save_checkpoint(self, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        with self.run.section("save"):
            return original(*args, **named)

    def _advance(self) -> None:
        if self._trainer.state.global_step > self.run.step:
            self.run.advance()


class _FirstEpoch:
    """The number of the first epoch, evaluated after the checkpoint was read.

    The Trainer passes it on earlier.
    """

    def __init__(self, loop: TrainerLoop) -> None:
        self._loop = loop

    def __index__(self) -> int:
        return self._loop.first_epoch


def _wrap(trainer: Trainer, name: str, replacement: Callable[..., Any]) -> None:
    original = getattr(trainer, name)
    setattr(trainer, name, lambda *args, **named: replacement(original, *args, **named))


def _require_supported(trainer: Trainer) -> None:
    """Reject what would not be exact: an unknown Trainer loop, or several processes."""
    for name, wanted in _WRAPPED_METHODS.items():
        method = getattr(trainer, name, None)
        if method is None or not wanted <= inspect.signature(method).parameters.keys():
            raise SetupError(
                f"TransformersCallback does not know the training loop of transformers {transformers.__version__}: "
                f"Trainer.{name} is not as in 5.23",
                "install transformers 5.23, or use supervisor start --watch-dir with Trainer's own checkpoints",
            )
    if trainer.args.world_size > 1:
        raise SetupError(
            f"TransformersCallback keeps one process, this is one of {trainer.args.world_size}",
            "start the script with python, not with torchrun or accelerate launch",
        )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise SetupError(
            "TransformersCallback cannot keep a model that DeepSpeed or FSDP has split",
            "train without deepspeed=, fsdp=",
        )
    if trainer.args.auto_find_batch_size:
        raise UsageError(
            "auto_find_batch_size begins again with smaller batches, which no checkpoint could follow",
            "leave it out, and give per_device_train_batch_size",
        )
