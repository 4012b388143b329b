"""transformers' Trainer: one callback keeps everything, and training goes on in the middle of an epoch as if nothing had been."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from supervisor.core.errors import UsageError
from supervisor.trainer.callbacks.transformers_loop import Loop
from supervisor.trainer.callbacks.transformers_state import without_times

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class TransformersCallback(TrainerCallback):
    """``Trainer(..., callbacks=[supervisor.TransformersCallback()])``; for a Trainer that is made already: ``(trainer)``.

    A step is one step of the optimizer. ``trainer.train()`` resumes by itself, so it is called without
    ``resume_from_checkpoint``; Trainer's own checkpoints are not needed (``save_strategy="no"``).
    """

    def __init__(self, trainer: Trainer | None = None) -> None:
        self._loop = Loop(trainer) if trainer is not None else None

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """The Trainer is made: take part in its loop."""
        del args, state, control
        trainer = _caller()
        if self._loop is None and trainer is not None:
            self._loop = Loop(trainer)
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
        """Model, optimizer, schedule and data are there: attach them, and restore."""
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
        self._known().begin()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """Let what is being copied beside the loop be copied before it changes."""
        del args, state, control
        self._known().run.before_update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **_objects: Any,
    ) -> None:
        """Log what the Trainer logs: losses, rates, the results of evaluations."""
        del args, state, control
        if self._loop is not None and self._loop.is_attached:
            self._loop.run.log(**{name: value for name, value in without_times(logs).items() if name != "step"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_objects: Any
    ) -> None:
        """The loop is over."""
        del args, state, control
        self._known().end()

    def _known(self) -> Loop:
        assert self._loop is not None, "on_train_begin refuses that"
        return self._loop


def _caller() -> Trainer | None:
    """Return the Trainer whose constructor is running: no event names it."""
    frame: Any = sys._getframe(1)  # noqa: SLF001  # the only way up
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back
    return None
