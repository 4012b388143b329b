"""Keras: receives the events of ``fit`` at its callback list, and tracks the saves of models and callbacks.

Nothing is added to the script's callbacks, because Keras delivers batches differently where a callback listens to them.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer.hooks import auto_attach
from supervisor.trainer.hooks.error_guard import guarded
from supervisor.trainer.hooks.save_tracker import count_steps_before, track_saves
from supervisor.trainer.hooks.writer_functions import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

SHARE_OF_GRACE = 0.5  # of the time that is left, for the rest of an epoch and its save


def install(keras: ModuleType, script: UnmodifiedScript) -> None:
    """Track the list of callbacks and the models' saves."""
    fit = _Fit(script)
    callback_list = keras.callbacks.CallbackList
    for name, handler, saves in (
        ("on_train_begin", fit.on_train_begin, None),
        ("on_epoch_begin", fit.on_epoch_begin, None),
        ("on_train_batch_end", fit.on_batch_end, lambda: fit.saves_within_epochs),
        ("on_test_begin", fit.on_test_begin, None),
        ("on_test_end", fit.on_test_end, None),
        ("on_epoch_end", fit.on_epoch_end, lambda: True),
        ("on_train_end", fit.on_train_end, None),
    ):
        guarded_handler = guarded(script, f"Keras's {name}", handler)
        setattr(callback_list, name, _with_handler(getattr(callback_list, name), guarded_handler, script, saves))
    if hasattr(keras.Model, "fit"):
        auto_attach.join_keras(keras, script)
    for name in ("save", "save_weights", "export"):
        if hasattr(keras.Model, name):
            track_saves(script, keras.Model, name, by_argument("filepath"))
            count_steps_before(script, keras.Model, name, lambda model: _iterations(model) or None)


def _with_handler(
    method: Callable[..., None],
    handler: Callable[..., None],
    script: UnmodifiedScript,
    saves: Callable[[], bool] | None,
) -> Callable[..., None]:
    """Return the method with ``handler`` after it.

    Saves of callbacks within it are reported when all of them are done.
    """

    def collapse_backup(callback_list: Any) -> None:
        for callback in callback_list.callbacks:
            if (folder := getattr(callback, "backup_dir", None)) is not None:
                script.saves.collapse(folder)  # its weights and its note of the epoch only count together

    covered = guarded(script, "BackupAndRestore", collapse_backup)

    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if script.silent:
            method(self, *args, **kwargs)
        elif saves is not None and saves():
            with script.saves.within(section=None):
                method(self, *args, **kwargs)
                covered(self)
            handler(self, *args, **kwargs)
        else:
            method(self, *args, **kwargs)
            handler(self, *args, **kwargs)

    return wrapper


class _Fit:
    """A running call of ``fit``. Keras counts batches within an epoch, and steps only in the optimizer."""

    saves_on_request = False

    def __init__(self, script: UnmodifiedScript) -> None:
        self.saves_within_epochs = False
        self._script = script
        self._counted = guarded(script, "the number of steps in the optimizer", _iterations)
        self._epoch = 0
        self._epoch_steps: int | None = None
        self._batches = 0
        self._total_known = False
        self._before_test = "start"
        self._ends_with_epoch = False

    def on_train_begin(self, callback_list: Any, logs: Any = None) -> None:  # noqa: ARG002  # as Keras calls it
        """Take the optimizer's count as the step: the callbacks have restored their saved state."""
        self._script.on_training_start()
        counted = self._counted(callback_list.model) or 0
        self.saves_within_epochs = any(
            isinstance(getattr(each, "save_freq", None), int) for each in callback_list.callbacks
        )
        self._epoch_steps = callback_list.params.get("steps")
        self._total_known = False
        first = not self._script.has_stepped
        self._script.on_loop_start(self, counted if first and counted else max(counted, self._script.step), None)

    def on_epoch_begin(self, callback_list: Any, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the epoch; the first one tells how many remain."""
        self._epoch, self._batches = epoch, 0
        self._script.epoch = float(epoch)
        if self._epoch_steps and not self._total_known:
            self._total_known = True
            self._script.total_steps = self._script.step + (callback_list.params["epochs"] - epoch) * self._epoch_steps

    def on_batch_end(self, callback_list: Any, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Count the steps. ``batch`` is the index of the last completed one; one execution may complete several."""
        script = self._script
        if logs:
            script.values = logs
        if self._epoch_steps:
            script.epoch = self._epoch + (batch + 1) / self._epoch_steps
        script.on_step(script.step + batch + 1 - self._batches)
        self._batches = batch + 1

    def on_test_begin(self, callback_list: Any, logs: Any = None) -> None:  # noqa: ARG002
        """Enter the validation, in ``fit`` or on its own."""
        self._before_test = self._script.sections.name
        self._script.enter("eval")

    def on_test_end(self, callback_list: Any, logs: Any = None) -> None:  # noqa: ARG002
        """Return to the interrupted section."""
        self._script.enter(self._before_test)

    def on_epoch_end(self, callback_list: Any, epoch: int, logs: Any = None) -> None:
        """End the script here if that was requested: the epoch's saves are done."""
        self._epoch_steps = self._epoch_steps or self._batches or None
        self.on_epoch_begin(callback_list, epoch + 1, logs)
        if self._ends_with_epoch:
            self._script.stop()

    def on_train_end(self, callback_list: Any, logs: Any = None) -> None:  # noqa: ARG002
        """Leave the loop; warn if it ended before its last step and no callback asked for it."""
        step, total = self._script.step, self._script.total_steps
        if total is not None and step < total and not callback_list.model.stop_training:
            self._script.send(TrainerNote("warning", ended_short_message(step, total)))
        self._script.on_loop_end()

    def request_save(self) -> None:
        """Do nothing: saves of Keras's callbacks within an epoch cannot resume within it."""

    def request_end(self, grace_s: float) -> bool:
        """End at the end of the epoch, where Keras's callbacks save, if it comes in time."""
        step_s = self._script.step_s
        if not self._epoch_steps or step_s is None:
            return False
        in_time = (self._epoch_steps - self._batches) * step_s < SHARE_OF_GRACE * grace_s
        self._ends_with_epoch = in_time
        return in_time


def _iterations(model: Any) -> int:
    """Return the steps that the model's optimizer has done in all fits and loops; 0 if unknown."""
    optimizer = getattr(model, "optimizer", None)
    counted = getattr(optimizer, "iterations", None) if getattr(optimizer, "built", False) else None
    return 0 if counted is None else number_of(counted)


def number_of(variable: Any) -> int:
    """Return the integer in a variable of Keras or TensorFlow, also in one with a copy on each of several devices."""
    if callable(getattr(variable, "numpy", None)):
        return int(variable.numpy())
    return int(variable)


def ended_short_message(step: int, total: int) -> str:
    """Return the warning for a fit that ended too early."""
    return (
        f"fit() ended at step {step:,} of {total:,}, and no callback stopped it (stop_training is not set): "
        "the data ran out, or steps were done that could not be followed"
    )
