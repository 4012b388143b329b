"""Keras: one callback keeps and restores a whole fit; ``model.fit(…, callbacks=[supervisor.KerasCallback(), …])``."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.errors import UsageError
from supervisor.core.messages import Note
from supervisor.trainer import life
from supervisor.trainer.attach import attach
from supervisor.trainer.callbacks import best_files, keras_after, keras_build, keras_data, keras_script, keras_state
from supervisor.trainer.callbacks.keras_attributes import Attributes
from supervisor.trainer.hooks.keras import stopped_short

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.run import Run

_used: list[Any] = []  # a process has one run


class KerasCallback(keras.callbacks.Callback):
    """Restores when ``fit`` begins, and has a boundary after every step; of the last one of an epoch, its end is part.

    A step is one execution of the train function: ``steps_per_execution`` batches. One process and one fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None
        self._data: keras_data.Data | None = None
        self._late: keras_state.Late | None = None
        self._train: Any = None
        self._stands_in = self._trained  # one object: a bound method is a new one each time
        self._build: Callable[[], None] = lambda: None
        self._parts: dict[str, Any] = {}
        self._histories: list[Any] = []
        self._as_numbers: set[str] = set()
        self._initial_epoch: Any = None
        self._logs: dict[str, Any] | None = None
        self._shown: dict[str, Any] = {}
        self._passed = False
        self._begun = False
        self._length: tuple[int | None, int | None] = (None, None)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        """Have the last word among the callbacks, because others reset themselves when a fit begins."""
        if _used:
            raise UsageError(
                "supervisor.KerasCallback keeps one fit of a script, and this is its second",
                "give each fit() a script of its own: save the model at the end of one, and load it in the next",
            )
        if (line := keras_script.second_fit()) is not None:
            raise UsageError(
                f"supervisor.KerasCallback keeps one fit of a script, and line {line} gives it to a second one",
                "give each fit() a script of its own: save the model at the end of one, and load it in the next",
            )
        _used.append(self)
        fit = _fit()
        last = _Last(self)
        last.set_model(self.model)
        last.set_params(self.params)
        fit.f_locals["callbacks"].callbacks.append(last)

    def restore(self) -> None:
        """All callbacks have begun: put back what was kept, and let fit begin there."""
        fit = _fit()
        iterator = keras_data.iterator_of(fit)
        keras_build.build(self.model, iterator)
        self._build = lambda: keras_build.build(self.model, iterator)
        self._data = data = keras_data.Data(iterator, self)
        others = keras_state.others(fit.f_locals["callbacks"], self)
        self._histories = [each for each in others if isinstance(each, keras.callbacks.History)]
        eager = self.model.run_eagerly or keras.backend.backend() == "torch"
        self._attributes = Attributes(self.model, others, eager=eager)
        self._parts = {
            "model": keras_state.FitModel(self.model, self._compiled_again),
            **({} if self.model.optimizer is None else {"optimizer": keras_state.FitOptimizer(self.model)}),
            "metrics": keras_state.Metrics(self.model),
            "callbacks": keras_state.Callbacks(fit.f_locals["callbacks"], others, self._attributes),
        }
        self._run = run = attach(**self._parts, data=data)
        run.companions.add(lambda: best_files.of_keras(others))
        epoch_steps = data.steps_in_epoch
        epochs = fit.f_locals["epochs"] - fit.f_locals["initial_epoch"]
        self._length = (None if epoch_steps is None else epochs * epoch_steps, epoch_steps)
        self._initial_epoch = self.model._initial_epoch
        if run.resumed:
            self.model._initial_epoch = fit.f_locals["epochs"] if data.stopped else data.epoch
        else:
            data.epoch = fit.f_locals["initial_epoch"]
        data.take_over()
        self._stand_in()
        if data.batch:
            self._late = keras_state.late(self._parts)
        else:
            self._begin()

    def first_batch_comes(self) -> None:
        """An epoch begins, and what begins with it has begun: within an epoch this is where a resumed run goes on."""
        if not self._begun:
            assert self._late is not None
            self._stand_in()
            self._late.put_back()
            self._begin()

    def step_comes(self) -> None:
        """Keras calls the train function next: it shall be ours, also where a callback has made another one."""
        self._stand_in()

    def step_is_done(self, **more: Any) -> None:
        """A step is done, and all callbacks have heard of it."""
        run, logs = self._run, self._logs
        assert run is not None
        if logs is None:
            return
        self._logs = None
        if self._passed:
            run.pass_over()
        else:
            run.log(**_flat(logs) | more)
            run.advance()

    def epoch_is_done(self, logs: dict[str, Any]) -> None:
        """The epoch's last step is done, with validation and all that callbacks do about it."""
        assert self._data is not None
        self._stand_in()
        for history in self._histories:
            keras_state.as_numbers(history, self._as_numbers)
        self._data.epoch_is_done()
        self._data.stopped = bool(self.model.stop_training)
        known = _flat(self._logs or {})
        self.step_is_done(**{name: value for name, value in logs.items() if name not in known})

    def end(self) -> None:
        """The fit is over."""
        run, data, total = self._run, self._data, self._length[0]
        assert run is not None
        assert data is not None
        self._stand_in()
        self.model.train_function, self._train = self._train, None
        self.model._initial_epoch = self._initial_epoch
        early = bool(self.model.stop_training or data.stopped)
        if total is not None and run.step < total and not early:
            life.here().say(Note("warning", stopped_short(run.step, total)))
        run.end(early=early)
        keras_after.tell_of_more()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        if self._run is not None and self._train is not None:
            self._run.enter("eval")

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        if self._run is not None and self._train is not None:
            self._run.leave()

    def _begin(self) -> None:
        assert self._run is not None
        self._begun = True
        self._run.begin(*self._length)

    def _stand_in(self) -> None:
        """Put our function around the train function. Another one than before means that the model was compiled again."""
        function = self.model.train_function
        if function is self._stands_in or function is None:
            return
        again = self._train is not None
        self._train, self.model.train_function = function, self._stands_in
        if again:
            self._parts["model"].compiled_again = True
            self._compiled_again()

    def _compiled_again(self) -> None:
        """The model has other metrics and another optimizer now: have their variables made, and follow them."""
        self._build()
        self.model.make_train_function()
        if "optimizer" in self._parts:
            self._parts["optimizer"].renew()
        elif self.model.optimizer is not None:
            words = "an optimizer that compile() gave the model within fit is not kept: compile with it before fit"
            life.here().say(Note("warning", words))

    def _trained(self, *given: Any) -> Any:
        """Stand in for the train function, because its logs are here before anybody waits for them."""
        assert self._run is not None
        assert self._data is not None
        jax = keras.backend.backend() == "jax"
        self._passed = self._run.skips(self._run.step)
        if self._passed:
            self._data.skip_steps(1)
            self._logs = self._shown
            return (self._logs, given[0]) if jax else self._logs
        result = self._train(*given)
        self._logs = self._shown = result[0] if jax else result
        self._attributes.traced()
        return result


class _Last(keras.callbacks.Callback):
    """The last in the list: when it hears of something, all others have done what they do about it."""

    def __init__(self, callback: KerasCallback) -> None:
        super().__init__()
        self._callback = callback

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.restore()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.epoch_is_done(logs or {})

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras's signature
        self._callback.end()


def _fit() -> Any:
    """Return the frame of Keras's ``fit`` that has called; UsageError if there is none."""
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
