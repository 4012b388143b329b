"""Keras: one callback saves and restores a whole fit; ``model.fit(…, callbacks=[supervisor.KerasCallback(), …])``."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.attach import attach
from supervisor.trainer.hooks.keras import ended_short_message
from supervisor.trainer.loops import best_files
from supervisor.trainer.loops.keras import build as keras_build
from supervisor.trainer.loops.keras import data_position as keras_data_position
from supervisor.trainer.loops.keras import script_check as keras_script_check
from supervisor.trainer.loops.keras import second_fit as keras_second_fit
from supervisor.trainer.loops.keras import state as keras_loop_state
from supervisor.trainer.loops.keras.attributes import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.run import Run

_fits: list[Any] = []  # a process has one run


class KerasCallback(keras.callbacks.Callback):
    """Restores when ``fit`` begins, and has a boundary after every step. An epoch's last step includes the epoch's end.

    A step is one execution of the train function: ``steps_per_execution`` batches. One process and one fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None
        self._data: keras_data_position.KerasDataPosition | None = None
        self._deferred: keras_loop_state.KerasDeferredRestore | None = None
        self._train_function: Any = None
        self._wrapper = self._train_step  # one object: a bound method is a new one each time
        self._build: Callable[[], None] = lambda: None
        self._parts: dict[str, Any] = {}
        self._histories: list[Any] = []
        self._converted_names: set[str] = set()
        self._initial_epoch: Any = None
        self._logs: dict[str, Any] | None = None
        self._last_logs: dict[str, Any] = {}
        self._step_skipped = False
        self._begun = False
        self._lengths: tuple[int | None, int | None] = (None, None)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        """Append a last callback, because other callbacks reset themselves when a fit begins."""
        if _fits:
            raise UsageError(
                "supervisor.KerasCallback keeps one fit of a script, and this is its second",
                "give each fit() a script of its own: save the model at the end of one, and load it in the next",
            )
        if (line := keras_script_check.second_fit()) is not None:
            raise UsageError(
                f"supervisor.KerasCallback keeps one fit of a script, and line {line} gives it to a second one",
                "give each fit() a script of its own: save the model at the end of one, and load it in the next",
            )
        _fits.append(self)
        fit = _fit()
        last = _LastCallback(self)
        last.set_model(self.model)
        last.set_params(self.params)
        fit.f_locals["callbacks"].callbacks.append(last)

    def restore(self) -> None:
        """Restore the fit and start it at the checkpoint's position: all callbacks have begun."""
        fit = _fit()
        iterator = keras_data_position.iterator_of(fit)
        keras_build.build(self.model, iterator)
        self._build = lambda: keras_build.build(self.model, iterator)
        self._data = data = keras_data_position.KerasDataPosition(iterator, self)
        others = keras_loop_state.stateful_callbacks(fit.f_locals["callbacks"], self)
        self._histories = [each for each in others if isinstance(each, keras.callbacks.History)]
        eager = self.model.run_eagerly or keras.backend.backend() == "torch"
        self._attributes = Attributes(self.model, others, eager=eager)
        self._parts = {
            "model": keras_loop_state.FitModel(self.model, self._on_recompile),
            **({} if self.model.optimizer is None else {"optimizer": keras_loop_state.FitOptimizer(self.model)}),
            "metrics": keras_loop_state.MetricStates(self.model),
            "callbacks": keras_loop_state.KerasCallbackStates(fit.f_locals["callbacks"], others, self._attributes),
        }
        self._run = run = attach(**self._parts, data=data)
        run.companions.add(lambda: best_files.of_keras(others))
        epoch_steps = data.steps_in_epoch
        epochs = fit.f_locals["epochs"] - fit.f_locals["initial_epoch"]
        self._lengths = (None if epoch_steps is None else epochs * epoch_steps, epoch_steps)
        self._initial_epoch = self.model._initial_epoch
        if run.resumed:
            self.model._initial_epoch = fit.f_locals["epochs"] if data.stopped else data.epoch
        else:
            data.epoch = fit.f_locals["initial_epoch"]
        data.take_over()
        self._install_wrapper()
        if data.batch:
            self._deferred = keras_loop_state.defer(self._parts)
        else:
            self._begin()

    def before_first_batch(self) -> None:
        """Restore again and begin the run, because the epoch's begin has changed the state."""
        if not self._begun:
            assert self._deferred is not None
            self._install_wrapper()
            self._deferred.restore()
            self._begin()

    def before_step(self) -> None:
        """Install our train function, because a callback may have replaced it."""
        self._install_wrapper()

    def after_step(self, **more: Any) -> None:
        """Log and count the step: all callbacks have received it."""
        run, logs = self._run, self._logs
        assert run is not None
        if logs is None:
            return
        self._logs = None
        if self._step_skipped:
            run.skip_step()
        else:
            run.log(**_flat(logs) | more)
            run.advance()

    def after_epoch(self, logs: dict[str, Any]) -> None:
        """Count the epoch's last step, with its validation and callbacks."""
        assert self._data is not None
        self._install_wrapper()
        for history in self._histories:
            keras_loop_state.log_as_numbers(history, self._converted_names)
        self._data.end_epoch()
        self._data.stopped = bool(self.model.stop_training)
        known = _flat(self._logs or {})
        self.after_step(**{name: value for name, value in logs.items() if name not in known})

    def end(self) -> None:
        """End the run: the fit is over."""
        run, data, total = self._run, self._data, self._lengths[0]
        assert run is not None
        assert data is not None
        self._install_wrapper()
        self.model.train_function, self._train_function = self._train_function, None
        self.model._initial_epoch = self._initial_epoch
        early = bool(self.model.stop_training or data.stopped)
        if total is not None and run.step < total and not early:
            trainer_context.current().send(TrainerNote("warning", ended_short_message(run.step, total)))
        run.end(early=early)
        keras_second_fit.watch_for_more()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        if self._run is not None and self._train_function is not None:
            self._run.enter_section("eval")

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        if self._run is not None and self._train_function is not None:
            self._run.leave_section()

    def _begin(self) -> None:
        assert self._run is not None
        self._begun = True
        self._run.begin(*self._lengths)

    def _install_wrapper(self) -> None:
        """Wrap the train function. A new train function means that the model was compiled again."""
        function = self.model.train_function
        if function is self._wrapper or function is None:
            return
        again = self._train_function is not None
        self._train_function, self.model.train_function = function, self._wrapper
        if again:
            self._parts["model"].compiled_again = True
            self._on_recompile()

    def _on_recompile(self) -> None:
        """Create the variables of the new metrics and the new optimizer, and follow them."""
        self._build()
        self.model.make_train_function()
        if "optimizer" in self._parts:
            self._parts["optimizer"].follow_model()
        elif self.model.optimizer is not None:
            message = "an optimizer that compile() gave the model within fit is not kept: compile with it before fit"
            trainer_context.current().send(TrainerNote("warning", message))

    def _train_step(self, *given: Any) -> Any:
        """Run the train function, or skip the step. Its logs are available here before anything waits for them."""
        assert self._run is not None
        assert self._data is not None
        jax = keras.backend.backend() == "jax"
        self._step_skipped = self._run.is_skipped(self._run.step)
        if self._step_skipped:
            self._data.skip_steps(1)
            self._logs = self._last_logs
            return (self._logs, given[0]) if jax else self._logs
        result = self._train_function(*given)
        self._logs = self._last_logs = result[0] if jax else result
        self._attributes.on_traced()
        return result


class _LastCallback(keras.callbacks.Callback):
    """The last callback of the list: it is called after all others."""

    def __init__(self, callback: KerasCallback) -> None:
        super().__init__()
        self._callback = callback

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.restore()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.after_epoch(logs or {})

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.end()


def _fit() -> Any:
    """Return the frame of the calling Keras ``fit``; UsageError if there is none."""
    frame = sys._getframe()
    while frame is not None:
        names = frame.f_code.co_varnames
        if frame.f_code.co_name == "fit" and "epoch_iterator" in names and "callbacks" in names:
            return frame
        frame = frame.f_back  # type: ignore[assignment]
    raise UsageError(
        f"supervisor.KerasCallback cannot find the fit() that it is in (Keras {keras.__version__})",
        "give it to model.fit(callbacks=[…]) of Keras 3.15; in a loop of your own, call supervisor.attach()",
    )


def _flat(logs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat(value) if isinstance(value, dict) else {name: value}
    return found
