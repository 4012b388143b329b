"""transformers' Trainer: one callback saves everything, and training resumes in the middle of an epoch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from supervisor.core.errors import UsageError
from supervisor.trainer.loops.transformers.loop import TrainerLoop
from supervisor.trainer.loops.transformers.state import without_times

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class TransformersCallback(TrainerCallback):
    """``Trainer(..., callbacks=[supervisor.TransformersCallback()])``; for an existing Trainer: ``TransformersCallback(trainer)``.

    A step is one optimizer step. ``trainer.train()`` resumes by itself, so it is called without ``resume_from_checkpoint``.
    Trainer's
    own checkpoints are not needed (``save_strategy="no"``).
    """

    def __init__(self, trainer: Trainer | None = None) -> None:
        self._loop = TrainerLoop(trainer) if trainer is not None else None

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """Join the loop of the new Trainer."""
        del args, state, control
        trainer = _calling_trainer()
        if self._loop is None and trainer is not None:
            self._loop = TrainerLoop(trainer)
            # First in the row, because what the others do at the begin is to meet the restored state.
            trainer.callback_handler.callbacks.remove(self)
            trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any,
        **_objects: Any,
    ) -> None:
        """Attach model, optimizer, schedule and data, and restore."""
        del args, state, control
        if self._loop is None:
            raise UsageError(
                "TransformersCallback was added to a Trainer that was made already",
                "give it to Trainer(callbacks=[…]), or add supervisor.TransformersCallback(trainer)",
            )
        self._loop.attach(train_dataloader)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """Begin the run's loop with the first epoch."""
        del args, state, control
        self._require_loop().begin()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """Let what is being copied beside the loop be copied before it changes."""
        del args, state, control
        self._require_loop().run.before_update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **_objects: Any,
    ) -> None:
        """Log the Trainer's values: losses, learning rates, evaluation results."""
        del args, state, control
        if self._loop is not None and self._loop.is_attached:
            self._loop.run.log(**{name: value for name, value in without_times(logs).items() if name != "step"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """End the loop."""
        del args, state, control
        self._require_loop().end()

    def _require_loop(self) -> TrainerLoop:
        assert self._loop is not None, "on_train_begin refuses that"
        return self._loop


def _calling_trainer() -> Trainer | None:
    """Return the Trainer whose constructor is running, because no event names it."""
    frame: Any = sys._getframe(1)  # noqa: SLF001  # the only way up
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back
    return None
