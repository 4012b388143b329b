"""Keras: what ``fit`` tells its callbacks, heard where it tells them all at once, and the saves of models and callbacks.

Nothing is added to the script's callbacks, because Keras sends batches on in another way where one listens to them.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note
from supervisor.trainer.hooks import attaching
from supervisor.trainer.hooks.guard import guarded
from supervisor.trainer.hooks.saves import count_before, tell_after
from supervisor.trainer.hooks.writers import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

SHARE_OF_GRACE = 0.5  # of the time that is left, for the rest of an epoch and its save


def install(keras: ModuleType, script: Unattached) -> None:
    """Follow the list of callbacks and the models' own saving."""
    fit = _Fit(script)
    told = keras.callbacks.CallbackList
    for name, heard, saves in (
        ("on_train_begin", fit.began, None),
        ("on_epoch_begin", fit.epoch_began, None),
        ("on_train_batch_end", fit.batch_ended, lambda: fit.saves_within_epochs),
        ("on_test_begin", fit.test_began, None),
        ("on_test_end", fit.test_ended, None),
        ("on_epoch_end", fit.epoch_ended, lambda: True),
        ("on_train_end", fit.ended, None),
    ):
        safely = guarded(script, f"Keras's {name}", heard)
        setattr(told, name, _heard_after(getattr(told, name), safely, script, saves))
    if hasattr(keras.Model, "fit"):
        attaching.into_keras(keras, script)
    for name in ("save", "save_weights", "export"):
        if hasattr(keras.Model, name):
            tell_after(script, keras.Model, name, by_argument("filepath"))
            count_before(script, keras.Model, name, lambda model: _iterations(model) or None)


def _heard_after(
    tell: Callable[..., None], heard: Callable[..., None], script: Unattached, saves: Callable[[], bool] | None
) -> Callable[..., None]:
    """Return the method with ``heard`` after it. What callbacks save in it is told when all of them are through."""

    def cover(told: Any) -> None:
        for callback in told.callbacks:
            if (folder := getattr(callback, "backup_dir", None)) is not None:
                script.saves.covered(folder)  # its weights and its note of the epoch only count together

    covered = guarded(script, "BackupAndRestore", cover)

    @wraps(tell)
    def tells(self: Any, *given: Any, **named: Any) -> None:
        if script.silent:
            tell(self, *given, **named)
        elif saves is not None and saves():
            with script.saves.within(section=None):
                tell(self, *given, **named)
                covered(self)
            heard(self, *given, **named)
        else:
            tell(self, *given, **named)
            heard(self, *given, **named)

    return tells


class _Fit:
    """The call of ``fit`` that runs; Keras counts batches within an epoch, and steps only in the optimizer."""

    saves_when_asked = False

    def __init__(self, script: Unattached) -> None:
        self.saves_within_epochs = False
        self._script = script
        self._counted = guarded(script, "the number of steps in the optimizer", _iterations)
        self._epoch = 0
        self._epoch_steps: int | None = None
        self._batches = 0
        self._total_known = False
        self._before_test = "start"
        self._ends_with_epoch = False

    def began(self, told: Any, logs: Any = None) -> None:  # noqa: ARG002  # as Keras calls it
        """The callbacks have put back what they had saved: what the optimizer has counted is the step."""
        self._script.begins()
        counted = self._counted(told.model) or 0
        self.saves_within_epochs = any(isinstance(getattr(each, "save_freq", None), int) for each in told.callbacks)
        self._epoch_steps = told.params.get("steps")
        self._total_known = False
        first = not self._script.stepped_yet
        self._script.loop_began(self, counted if first and counted else max(counted, self._script.step), None)

    def epoch_began(self, told: Any, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the epoch; the first tells how many are still to come."""
        self._epoch, self._batches = epoch, 0
        self._script.epoch = float(epoch)
        if self._epoch_steps and not self._total_known:
            self._total_known = True
            self._script.total_steps = self._script.step + (told.params["epochs"] - epoch) * self._epoch_steps

    def batch_ended(self, told: Any, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """``batch`` is the index of the last one that was done; several may be done in one execution."""
        script = self._script
        if logs:
            script.values = logs
        if self._epoch_steps:
            script.epoch = self._epoch + (batch + 1) / self._epoch_steps
        script.stepped(script.step + batch + 1 - self._batches)
        self._batches = batch + 1

    def test_began(self, told: Any, logs: Any = None) -> None:  # noqa: ARG002
        """Validation, in ``fit`` or on its own."""
        self._before_test = self._script.sections.name
        self._script.enter("eval")

    def test_ended(self, told: Any, logs: Any = None) -> None:  # noqa: ARG002
        """Back to what it interrupted."""
        self._script.enter(self._before_test)

    def epoch_ended(self, told: Any, epoch: int, logs: Any = None) -> None:
        """What saves at the end of an epoch has saved: a script that was told to end does so."""
        self._epoch_steps = self._epoch_steps or self._batches or None
        self.epoch_began(told, epoch + 1, logs)
        if self._ends_with_epoch:
            self._script.stop_here()

    def ended(self, told: Any, logs: Any = None) -> None:  # noqa: ARG002
        """``fit`` is over; where it ended before its last step, and no callback asked for that, this is said."""
        step, total = self._script.step, self._script.total_steps
        if total is not None and step < total and not told.model.stop_training:
            self._script.say(Note("warning", stopped_short(step, total)))
        self._script.loop_ended()

    def save_soon(self) -> None:
        """Nothing: what Keras's callbacks save within an epoch they cannot go on from within it."""

    def end_soon(self, grace_s: float) -> bool:
        """Wait for the end of the epoch, where Keras's callbacks save, if it comes in time."""
        step_s = self._script.step_s
        if not self._epoch_steps or step_s is None:
            return False
        in_time = (self._epoch_steps - self._batches) * step_s < SHARE_OF_GRACE * grace_s
        self._ends_with_epoch = in_time
        return in_time


def _iterations(model: Any) -> int:
    """Return the steps that the model's optimizer has done, in all fits and loops together; 0 where it cannot tell."""
    optimizer = getattr(model, "optimizer", None)
    counted = getattr(optimizer, "iterations", None) if getattr(optimizer, "built", False) else None
    return 0 if counted is None else number_of(counted)


def number_of(variable: Any) -> int:
    """Return the integer in a variable of Keras or TensorFlow, also in one with a copy on each of several devices."""
    if callable(getattr(variable, "numpy", None)):
        return int(variable.numpy())
    return int(variable)


def stopped_short(step: int, total: int) -> str:
    """Return the words for a fit that came to its end too early."""
    return (
        f"fit() ended at step {step:,} of {total:,}, and no callback stopped it (stop_training is not set): "
        "the data ran out, or steps were done that could not be followed"
    )
