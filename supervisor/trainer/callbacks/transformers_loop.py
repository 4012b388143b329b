"""Our part in a Trainer's loop: where a step is done, where an epoch goes on, and what its methods are wrapped in for that."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import transformers

from supervisor.core.errors import SetupError, UsageError
from supervisor.trainer import life
from supervisor.trainer.attach import attach
from supervisor.trainer.callbacks import best_files
from supervisor.trainer.callbacks.batches import Chance, Data
from supervisor.trainer.callbacks.transformers_state import Callbacks, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import Trainer

    from supervisor.trainer.run import Run

# The methods of Trainer that are wrapped, and the arguments that are looked at.
_NEEDED = {
    "_init_training_state": {"max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint"},
    "_run_epoch": {
        "epoch", "epochs_trained", "steps_trained_in_current_epoch", "resume_from_checkpoint", "train_dataloader",
    },
    "_maybe_log_save_evaluate": set(),
    "_load_rng_state": set(),
    "_evaluate": set(),
    "_save_checkpoint": set(),
}  # fmt: skip


class Loop:
    """One Trainer's. The step that ends an epoch is done when all is done that Trainer does at the end of the epoch."""

    def __init__(self, trainer: Trainer) -> None:
        self.is_attached = False
        self.run: Run
        self._trainer = trainer
        self._data: Data
        self._steps_of_epoch = 0  # how many there are
        self._epochs = 0
        self._max_steps = 0
        self._steps_done = 0  # of the present epoch
        self._ran_out = False  # an epoch had no batch, so that Trainer itself stops
        self._seen_step = 0
        self._begun = self._ended = self._in_epoch = False
        self._resumes_within = False
        self._now: Chance | None = None
        _refuse(trainer)
        instead: dict[str, Callable[..., Any]] = {
            "_init_training_state": self._init_training_state,
            "_run_epoch": self._run_epoch,
            "_maybe_log_save_evaluate": self._maybe_log_save_evaluate,
            "_load_rng_state": self._load_rng_state,
            "_evaluate": self._evaluate,
            "_save_checkpoint": self._save_checkpoint,
        }
        for name, around in instead.items():
            _wrap(trainer, name, around)

    @property
    def first_epoch(self) -> int:
        """The epoch in which training goes on."""
        return self._data.epoch

    def attach(self, loader: Any) -> None:
        """Everything there is to keep exists now: attach it, and with that put back what a checkpoint has of it."""
        trainer = self._trainer
        self._data = Data(loader, trainer.args.gradient_accumulation_steps)
        parts = {
            "model": trainer.model,
            "optimizer": getattr(trainer.optimizer, "optimizer", trainer.optimizer),
            "scheduler": trainer.lr_scheduler,
            "scaler": trainer.accelerator.scaler,
            "callbacks": Callbacks(trainer, life.here().say),
            "progress": Progress(trainer),
            "data": self._data,
        }
        self.run = attach(**{name: part for name, part in parts.items() if part is not None})
        self.run.companions.add(lambda: best_files.of_transformers(trainer))
        self.is_attached = True
        self._resumes_within = self._data.batches > 0
        self._seen_step = self.run.step
        trainer.args.ignore_data_skip = False  # it is there to save the time that is not needed here
        if self.run.resumed and self._resumes_within:
            self._data.warn_of_inexact()

    def begin(self) -> None:
        """An epoch begins; the first one begins the run's loop."""
        if self._begun:
            return
        self._begun = True
        self.run.begin(self._max_steps, self._steps_of_epoch or None)
        self._now = Chance.now()

    def end(self) -> None:
        """No further step will be done."""
        if not self._ended:
            self._ended = True
            self.run.end(early=self._trainer.control.should_training_stop and not self._ran_out)

    # --- what is called instead of the Trainer's methods ----------------------------------------------------------

    def _init_training_state(self, inner: Callable[..., Any], *args: Any, **named: Any) -> Any:
        given = inspect.signature(inner).bind(*args, **named).arguments
        if given["resume_from_checkpoint"] is not None:
            raise UsageError(
                "train() was called with resume_from_checkpoint, but TransformersCallback resumes by itself",
                "call trainer.train() without it; to begin with published weights, load them into the model",
            )
        self._max_steps, self._epochs = given["max_steps"], given["num_train_epochs"]
        self._steps_of_epoch = given["num_update_steps_per_epoch"]
        inner(*args, **named)
        return _FirstEpoch(self), 0

    def _run_epoch(self, inner: Callable[..., Any], **named: Any) -> None:
        epoch, data = named["epoch"], self._data
        if self._resumes_within:
            self._steps_done = data.batches // self._trainer.args.gradient_accumulation_steps
            assert self._now is not None, "on_epoch_begin comes first"
            data.resumes(self._now)
            named |= {
                "epochs_trained": epoch,
                "steps_trained_in_current_epoch": data.batches,
                "resume_from_checkpoint": "",
            }
            self._resumes_within = False
        else:
            self._steps_done = 0
            data.begins()
        self._in_epoch = True
        inner(**named)
        self._in_epoch = False
        over = self._trainer.control.should_training_stop
        self._ran_out = over and not self._steps_done
        data.ended(self._epochs if over else epoch + 1)
        self._advance()
        if over or epoch + 1 == self._epochs:
            self.end()

    def _maybe_log_save_evaluate(self, inner: Callable[..., Any], *args: Any, **named: Any) -> None:
        inner(*args, **named)
        if self._trainer.state.global_step == self._seen_step:
            return  # the end of an epoch
        self._seen_step = self._trainer.state.global_step
        self._steps_done += 1
        control = self._trainer.control
        if self._steps_done != self._steps_of_epoch and not (control.should_epoch_stop or control.should_training_stop):
            self._data.batches = self._steps_done * self._trainer.args.gradient_accumulation_steps
            self._advance()

    def _load_rng_state(self, inner: Callable[..., Any], checkpoint: str | None) -> None:
        """The Trainer wants to put back chance, after the first batches of an epoch that goes on were read."""
        if not self.is_attached:
            inner(checkpoint)
        elif self._data.found is None and self._now is not None:
            self._now.put_back()

    def _evaluate(self, inner: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if not self._in_epoch and self.run.resumed:
            return {}  # eval_on_start: it was done when the run began
        with self.run.section("eval"):
            return inner(*args, **named)

    def _save_checkpoint(self, inner: Callable[..., Any], *args: Any, **named: Any) -> Any:
        with self.run.section("save"):
            return inner(*args, **named)

    def _advance(self) -> None:
        if self._trainer.state.global_step > self.run.step:
            self.run.advance()


class _FirstEpoch:
    """The number of the first epoch, which is asked for after the checkpoint was read: Trainer hands it on before."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __index__(self) -> int:
        return self._loop.first_epoch


def _wrap(trainer: Trainer, name: str, around: Callable[..., Any]) -> None:
    inner = getattr(trainer, name)
    setattr(trainer, name, lambda *args, **named: around(inner, *args, **named))


def _refuse(trainer: Trainer) -> None:
    """Refuse what would not be exact: a Trainer with another loop than the known one, several processes."""
    for name, wanted in _NEEDED.items():
        method = getattr(trainer, name, None)
        if method is None or not wanted <= inspect.signature(method).parameters.keys():
            raise SetupError(
                f"TransformersCallback does not know the training loop of transformers {transformers.__version__}: "
                f"Trainer.{name} is not as in 5.23",
                "install transformers 5.23, or use supervisor start --watch with Trainer's own checkpoints",
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
