"""The state of a fit beside its model and optimizer.

Metrics in progress, callbacks, and the deferred restore within an epoch.
"""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

import copy
import json
import sys
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.adapters.keras import callbacks as keras_callbacks
from supervisor.trainer.adapters.keras import state as keras_state
from supervisor.trainer.adapters.keras.state import NamedVariables
from supervisor.trainer.errors import UnsupportedStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.trainer.adapters.port import StateAccess
    from supervisor.trainer.loops.keras.attributes import Attributes

ATTRIBUTES, COMPILED = "<attributes>", "<compiled>"


class MetricStates:
    """Attached. The compiled metrics and the mean of the loss, up to the current batch."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._named = NamedVariables(lambda: model.metrics_variables)

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics' variables by name."""
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()
        return self._named.get()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Assign them."""
        self._named.set(state)


class KerasCallbackStates:
    """Attached. The fit's other callbacks, by their place in the list; the progress bar needs no state.

    Changed plain attributes of the model and its parts are stored beside them, because callbacks change those.
    """

    def __init__(self, callback_list: Any, stateful: Sequence[Any], attributes: Attributes) -> None:
        self._callback_list, self._attributes = callback_list, attributes
        self._state_access = {
            f"{number} {type(each).__name__}": keras_callbacks.state_access(each)
            for number, each in enumerate(stateful)
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each callback."""
        if self._callback_list._futures:
            self._callback_list._flush_futures()
        state = {name: get() for name, (get, _) in self._state_access.items()}
        changed = self._attributes.get()
        self._attributes.report_unkept()
        return {**state, ATTRIBUTES: changed} if changed else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore each callback; ValueError if the callbacks are others."""
        named = [name for name in state if name != ATTRIBUTES]
        if set(named) != self._state_access.keys():
            raise ValueError(
                f"it is of the callbacks {', '.join(named)}, and these are {', '.join(self._state_access)}"
            )
        for name, (_, put) in self._state_access.items():
            put(state[name])
        self._attributes.set(state.get(ATTRIBUTES, {}))


def stateful_callbacks(callback_list: Any, own: Any) -> list[Any]:
    """Return the stateful callbacks of a fit without ours, which is also the last one."""
    return [each for each in callback_list.callbacks[:-1] if each is not own and not _is_shown_only(each)]


class FitModel(keras_state.ReplaceableState):
    """Attached. The model of a fit; ``on_recompile`` is called after it was compiled again, to rebuild what compile() dropped.

    If the script compiles it again within the fit, the compile configuration is saved too. A fresh process does not get there.
    """

    def __init__(self, model: Any, on_recompile: Callable[[], None]) -> None:
        self.model = model
        self.compiled_again = False
        self._on_recompile = on_recompile
        self._get, self._set = _state_access(model)

    def get(self) -> dict[str, Any]:
        """Return its variables and attribute state. UnsupportedStateError if its compilation cannot be repeated."""
        state = dict(self._get())
        return {**state, COMPILED: self._compiled()} if self.compiled_again else state

    def set(self, state: Mapping[str, Any]) -> None:
        """Compile it as it was, and restore the variables; ValueError if that cannot be done here."""
        compiled = state.get(COMPILED)
        if compiled is not None:
            for layer, flag in zip(self.model._flatten_layers(), compiled["trainable"], strict=True):
                if layer.trainable != flag:
                    layer.trainable = flag
            with keras.saving.custom_object_scope(_of_the_script()):
                self.model.compile_from_config(json.loads(compiled["config"]))
            self.compiled_again = True
            self._on_recompile()
        self.restore_variables(state)

    def restore_variables(self, state: Mapping[str, Any]) -> None:
        """Restore everything but the compile configuration."""
        self._set({name: value for name, value in state.items() if name != COMPILED})

    def _compiled(self) -> dict[str, Any]:
        """Return the model's compile configuration and its trainable flags."""
        own = type(self.model).compile is not keras.Model.compile
        try:
            config = "" if own else json.dumps(self.model.get_compile_config())
            with keras.saving.custom_object_scope(_of_the_script()):
                keras.saving.deserialize_keras_object(json.loads(config))  # no JSON where compile() is the script's own
        except Exception as error:
            raise UnsupportedStateError(
                "model",
                f"the script compiled it again within fit, and that cannot be repeated: {str(error).partition(chr(10))[0]}",
                "use losses, metrics and optimizers by name or of classes and functions of the script's first level; "
                "a resume goes on from the checkpoint before",
            ) from error
        return {"config": config, "trainable": [bool(layer.trainable) for layer in self.model._flatten_layers()]}


class FitOptimizer(keras_state.ReplaceableState):
    """Attached. The optimizer that the train function uses; compile() may replace it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.follow_model()

    def follow_model(self) -> None:
        """Follow the model's current optimizer."""
        self.optimizer = self.model.optimizer  # by this name a learning rate is found that shall be made smaller
        self._get, self._set = _state_access(self.optimizer, [self.model])

    def get(self) -> Any:
        """Return its variables."""
        return self._get()

    def set(self, state: Any) -> None:
        """Restore its variables."""
        self._set(state)


class KerasDeferredRestore:
    """All of the fit's state, kept while an epoch begins: a resume within an epoch must not repeat the begin's changes.

    The begin of an epoch resets metrics, and callbacks may change anything: resets, noise, pruning, another learning rate.
    """

    def __init__(self, parts: Sequence[StateAccess]) -> None:
        self._parts = [(_copy(get()), put) for get, put in parts]

    def restore(self) -> None:
        """Restore the state within the epoch: the epoch has begun."""
        parts, self._parts = self._parts, []
        for state, put in parts:
            put(state)


def defer(parts: Mapping[str, Any]) -> KerasDeferredRestore:
    """Keep all of a fit's state as it is now, until its epoch has begun."""
    model, optimizer = parts["model"], parts.get("optimizer")
    rest = [(each.state_dict, each.load_state_dict) for each in (parts["metrics"], parts["callbacks"])]
    held = [] if optimizer is None else [(optimizer.get, optimizer.set)]
    return KerasDeferredRestore([(model.get, model.restore_variables), *held, *rest])


def log_as_numbers(history: Any, reported: set[str]) -> None:
    """Convert variables in a history to numbers, because the variables change later."""
    for name, values in history.history.items():
        if values and callable(getattr(values[-1], "assign", None)):
            number = keras.ops.convert_to_numpy(values[-1])
            values[-1] = number.item() if number.size == 1 else number.tolist()
            if name not in reported:
                reported.add(name)
                message = (
                    f"{name} is logged as a variable, which changes later: the history holds its number of each epoch"
                )
                trainer_context.current().send(TrainerNote("info", message))


def _is_shown_only(callback: Any) -> bool:
    return isinstance(callback, keras.callbacks.ProgbarLogger)


def _copy(value: Any) -> Any:
    """Return a copy that does not change with the variables and containers."""
    if isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value._value if value._value is not None else value.value).copy()
    if type(value) is dict:
        return {key: _copy(each) for key, each in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(map(_copy, value))
    if callable(getattr(value, "read_value", None)):
        return value.read_value()  # TensorFlow's own variable
    if type(value).__module__.startswith("torch"):
        return value.detach().clone()
    return value if value.__hash__ is not None and not hasattr(value, "__dict__") else copy.deepcopy(value)


def _state_access(value: Any, models: Sequence[Any] | None = None) -> StateAccess:
    found = keras_state.state_access(value, [value] if models is None else models)
    assert found is not None
    return found


def _of_the_script() -> dict[str, Any]:
    """Return the script's functions and classes, by which Keras finds those that a configuration names."""
    return {name: each for name, each in vars(sys.modules["__main__"]).items() if callable(each)}
