"""transformers: a callback that each Trainer has from the start; it hears of steps, logs and saves, and can ask for one."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note
from supervisor.trainer.hooks import attaching
from supervisor.trainer.hooks.asked import Asked
from supervisor.trainer.hooks.guard import guard_methods
from supervisor.trainer.hooks.saves import tell_after
from supervisor.trainer.hooks.writers import by_argument

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

SAVE = "_save_checkpoint"  # followed so that the folder is told as a whole, by on_save, and none of the files in it


def install(trainer: ModuleType, script: Unattached) -> None:
    """Put the callback among those that every Trainer has."""
    heard = _callback(trainer.TrainerCallback, _Training(script))
    trainer.DEFAULT_CALLBACKS.append(heard)
    if (save := getattr(trainer.Trainer, SAVE, None)) is not None:
        setattr(trainer.Trainer, SAVE, _whole(save, script))
    tell_after(script, trainer.Trainer, "save_model", by_argument("output_dir"))
    attaching.into_transformers(trainer, script)
    for name in ("evaluate", "predict"):
        setattr(trainer.Trainer, name, _in_eval(getattr(trainer.Trainer, name), script))


class _Training:
    """The Trainer's loop that runs."""

    saves_when_asked = True

    def __init__(self, script: Unattached) -> None:
        self.script = script
        self.asked = Asked()
        self._requested = False
        self._epoch_first = 0

    def epoch_began(self, state: Any) -> None:
        """Note where it begins: in an epoch without a batch Trainer itself stops."""
        self._epoch_first = state.global_step

    def ended(self, state: Any, control: Any) -> None:
        """``train`` is over; where it ended before its last step, and no callback asked for that, this is said."""
        step, total = state.global_step, state.max_steps
        asked = control.should_training_stop and step > self._epoch_first
        if step < total and not asked and not self.script.silent:
            self.script.say(Note("warning", stopped_short(step, total)))
        self.script.loop_ended()

    def began(self, state: Any) -> None:
        self.script.loop_began(self, state.global_step, state.max_steps if state.max_steps > 0 else None)

    def stepped(self, state: Any, control: Any) -> None:
        script = self.script
        script.epoch = state.epoch
        script.stepped(state.global_step)
        if (self.asked.save or self.asked.end) and not control.should_save:
            control.should_save = self._requested = True
        self.asked.save = False

    def saved(self, folder: Path) -> None:
        """The Trainer's checkpoint of this step is whole."""
        if not folder.is_dir():
            return
        self.script.saves.found(folder)
        self.asked.done(str(folder), asked=self._requested)
        self._requested = False
        if self.asked.end:
            self.script.stop_here()

    def save_soon(self) -> None:
        """Have a checkpoint saved after this step."""
        self.asked.save = True

    def end_soon(self, grace_s: float) -> bool:
        """Have one saved after this step, and end."""
        self.asked.end = grace_s > 0
        return self.asked.end


def _callback(base: Any, training: _Training) -> Any:
    """Return a callback class over the script's own ``TrainerCallback``: what it imports is what is used."""
    script = training.script

    class Watching(base):
        """Sends on what the Trainer tells, unless the script speaks for itself."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.began(state)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.epoch_began(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if not script.silent:
                training.stepped(state, control)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            script.values = {**script.values, **(logs or {})}

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if not script.silent:
                training.saved(Path(args.output_dir, f"checkpoint-{state.global_step}"))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            training.ended(state, control)

    return guard_methods(script, Watching)


def stopped_short(step: int, total: int) -> str:
    """Return the words for a training that came to its end too early."""
    return f"train() ended at step {step:,} of {total:,}, and no callback stopped it: the data ran out"


def _whole(save: Any, script: Unattached) -> Any:
    @wraps(save)
    def saves(*given: Any, **named: Any) -> Any:
        with script.saves.within():
            result = save(*given, **named)
            script.saves.forget_held()
        return result

    return saves


def _in_eval(evaluate: Any, script: Unattached) -> Any:
    @wraps(evaluate)
    def evaluates(*given: Any, **named: Any) -> Any:
        with script.within("eval"):
            return evaluate(*given, **named)

    return evaluates
