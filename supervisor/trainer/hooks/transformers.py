"""transformers: a callback that each Trainer has from the start.

It receives steps, logs and saves, and can request a save.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer.hooks import auto_attach
from supervisor.trainer.hooks.error_guard import guard_methods
from supervisor.trainer.hooks.on_demand_save import OnDemandSave
from supervisor.trainer.hooks.save_tracker import track_saves
from supervisor.trainer.hooks.writer_functions import by_argument

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

SAVE = "_save_checkpoint"  # wrapped so that on_save reports the folder, and no file in it is reported


def install(trainer: ModuleType, script: UnmodifiedScript) -> None:
    """Add the callback to those that every Trainer has."""
    observer = _callback(trainer.TrainerCallback, _Training(script))
    trainer.DEFAULT_CALLBACKS.append(observer)
    if (save := getattr(trainer.Trainer, SAVE, None)) is not None:
        setattr(trainer.Trainer, SAVE, _as_one_save(save, script))
    track_saves(script, trainer.Trainer, "save_model", by_argument("output_dir"))
    auto_attach.join_transformers(trainer, script)
    for name in ("evaluate", "predict"):
        setattr(trainer.Trainer, name, _in_eval(getattr(trainer.Trainer, name), script))


class _Training:
    """The running Trainer's loop."""

    saves_on_request = True

    def __init__(self, script: UnmodifiedScript) -> None:
        self.script = script
        self.request = OnDemandSave()
        self._was_requested = False
        self._epoch_first = 0

    def on_epoch_start(self, state: Any) -> None:
        """Note the first step: in an epoch without a batch, the Trainer itself stops."""
        self._epoch_first = state.global_step

    def on_train_end(self, state: Any, control: Any) -> None:
        """Leave the loop; warn if it ended before its last step and no callback asked for it."""
        step, total = state.global_step, state.max_steps
        requested = control.should_training_stop and step > self._epoch_first
        if step < total and not requested and not self.script.silent:
            self.script.send(TrainerNote("warning", ended_short_message(step, total)))
        self.script.on_loop_end()

    def on_train_begin(self, state: Any) -> None:
        self.script.on_loop_start(self, state.global_step, state.max_steps if state.max_steps > 0 else None)

    def on_step(self, state: Any, control: Any) -> None:
        script = self.script
        script.epoch = state.epoch
        script.on_step(state.global_step)
        if (self.request.save or self.request.end) and not control.should_save:
            control.should_save = self._was_requested = True
        self.request.save = False

    def saved(self, folder: Path) -> None:
        """Report the Trainer's complete checkpoint of this step."""
        if not folder.is_dir():
            return
        self.script.saves.add(folder)
        self.request.on_saved(str(folder), requested=self._was_requested)
        self._was_requested = False
        if self.request.end:
            self.script.stop()

    def request_save(self) -> None:
        """Save a checkpoint after this step."""
        self.request.save = True

    def request_end(self, grace_s: float) -> bool:
        """Save after this step, and end."""
        self.request.end = grace_s > 0
        return self.request.end


def _callback(base: Any, training: _Training) -> Any:
    """Return a callback class over the script's own ``TrainerCallback``: what it imports is what is used."""
    script = training.script

    class TransformersObserver(base):
        """Sends on what the Trainer tells, unless the script speaks for itself."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.on_train_begin(state)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.on_epoch_start(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if not script.silent:
                training.on_step(state, control)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            script.values = {**script.values, **(logs or {})}

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if not script.silent:
                training.saved(Path(args.output_dir, f"checkpoint-{state.global_step}"))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.on_train_end(state, control)

    return guard_methods(script, TransformersObserver)


def ended_short_message(step: int, total: int) -> str:
    """Return the warning for a training that ended too early."""
    return f"train() ended at step {step:,} of {total:,}, and no callback stopped it: the data ran out"


def _as_one_save(save: Any, script: UnmodifiedScript) -> Any:
    @wraps(save)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with script.saves.within():
            result = save(*args, **kwargs)
            script.saves.drop_pending()
        return result

    return wrapper


def _in_eval(evaluate: Any, script: UnmodifiedScript) -> Any:
    @wraps(evaluate)
    def evaluates(*args: Any, **kwargs: Any) -> Any:
        with script.within("eval"):
            return evaluate(*args, **kwargs)

    return evaluates
