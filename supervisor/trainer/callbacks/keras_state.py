"""What else a fit has than its model and optimizer: metrics under way, callbacks, and what is put back within an epoch."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

import copy
import json
import sys
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.messages import Note
from supervisor.trainer import life
from supervisor.trainer.frameworks import keras_callbacks, keras_state
from supervisor.trainer.frameworks.keras_state import Named
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.trainer.callbacks.keras_attributes import Attributes
    from supervisor.trainer.frameworks.framework import StateAccess

ATTRIBUTES, COMPILED = "<attributes>", "<compiled>"


class Metrics:
    """Attached. The compiled metrics and the mean of the loss, as far as the epoch has come."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._named = Named(lambda: model.metrics_variables)

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics' variables by name."""
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()
        return self._named.get()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Assign them."""
        self._named.set(state)


class Callbacks:
    """Attached. The other callbacks of the fit, by their place in the list; the progress bar makes itself anew.

    Beside them stands what has changed of the plain attributes of the model and its parts, because callbacks do that.
    """

    def __init__(self, told: Any, others: Sequence[Any], attributes: Attributes) -> None:
        self._told, self._attributes = told, attributes
        self._access = {
            f"{number} {type(each).__name__}": keras_callbacks.access(each) for number, each in enumerate(others)
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what each remembers."""
        if self._told._futures:
            self._told._flush_futures()
        state = {name: get() for name, (get, _) in self._access.items()}
        changed = self._attributes.get()
        self._attributes.look()
        return {**state, ATTRIBUTES: changed} if changed else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have each remember it; ValueError if these are others."""
        named = [name for name in state if name != ATTRIBUTES]
        if set(named) != self._access.keys():
            raise ValueError(f"it is of the callbacks {', '.join(named)}, and these are {', '.join(self._access)}")
        for name, (_, put) in self._access.items():
            put(state[name])
        self._attributes.set(state.get(ATTRIBUTES, {}))


def others(told: Any, own: Any) -> list[Any]:
    """Return the callbacks of a fit that have something to remember, without ours, which is the last too."""
    return [each for each in told.callbacks[:-1] if each is not own and not _is_shown_only(each)]


class FitModel(keras_state.InFit):
    """Attached. The model of a fit; ``again`` is called after it was compiled anew, to have all made that compile() unmade.

    Where the script compiles it again within the fit, how it was compiled is kept too: another process does not come there.
    """

    def __init__(self, model: Any, again: Callable[[], None]) -> None:
        self.model = model
        self.compiled_again = False
        self._again = again
        self._get, self._set = _access(model)

    def get(self) -> dict[str, Any]:
        """Return its variables, and what hangs on it; RefusedError if it was compiled in a way that cannot be repeated."""
        state = dict(self._get())
        return {**state, COMPILED: self._compiled()} if self.compiled_again else state

    def set(self, state: Mapping[str, Any]) -> None:
        """Compile it as it was, and put the variables back; ValueError if that cannot be done here."""
        compiled = state.get(COMPILED)
        if compiled is not None:
            for layer, flag in zip(self.model._flatten_layers(), compiled["trainable"], strict=True):
                if layer.trainable != flag:
                    layer.trainable = flag
            with keras.saving.custom_object_scope(_of_the_script()):
                self.model.compile_from_config(json.loads(compiled["config"]))
            self.compiled_again = True
            self._again()
        self.put_back(state)

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Put back all but how it was compiled."""
        self._set({name: value for name, value in state.items() if name != COMPILED})

    def _compiled(self) -> dict[str, Any]:
        """Return how the model is compiled, and what of it is trained."""
        own = type(self.model).compile is not keras.Model.compile
        try:
            config = "" if own else json.dumps(self.model.get_compile_config())
            with keras.saving.custom_object_scope(_of_the_script()):
                keras.saving.deserialize_keras_object(json.loads(config))  # no JSON where compile() is the script's own
        except Exception as error:
            raise RefusedError(
                "model",
                f"the script compiled it again within fit, and that cannot be repeated: {str(error).partition(chr(10))[0]}",
                "use losses, metrics and optimizers by name or of classes and functions of the script's first level; "
                "a resume goes on from the checkpoint before",
            ) from error
        return {"config": config, "trainable": [bool(layer.trainable) for layer in self.model._flatten_layers()]}


class FitOptimizer(keras_state.InFit):
    """Attached. The optimizer that the train function uses, which is another one after compile()."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.renew()

    def renew(self) -> None:
        """Follow the optimizer that the model has now."""
        self.optimizer = self.model.optimizer  # by this name a learning rate is found that shall be made smaller
        self._get, self._set = _access(self.optimizer, [self.model])

    def get(self) -> Any:
        """Return its variables."""
        return self._get()

    def set(self, state: Any) -> None:
        """Put them back."""
        self._set(state)


class Late:
    """What the beginning of an epoch changes, and must not change again for the rest of one: all of the fit's state.

    Metrics are reset there, and callbacks may do whatever they like: resets, noise, pruning, another learning rate.
    """

    def __init__(self, parts: Sequence[StateAccess]) -> None:
        self._parts = [(_frozen(get()), put) for get, put in parts]

    def put_back(self) -> None:
        """The epoch has begun: set all to what was kept within it."""
        parts, self._parts = self._parts, []
        for state, put in parts:
            put(state)


def late(parts: Mapping[str, Any]) -> Late:
    """Keep all of a fit's state as it is now, for after its epoch has begun."""
    model, optimizer = parts["model"], parts.get("optimizer")
    told = [(each.state_dict, each.load_state_dict) for each in (parts["metrics"], parts["callbacks"])]
    held = [] if optimizer is None else [(optimizer.get, optimizer.set)]
    return Late([(model.get, model.put_back), *held, *told])


def as_numbers(history: Any, told: set[str]) -> None:
    """Have a history hold numbers where a callback has logged variables: these would change behind its back."""
    for name, values in history.history.items():
        if values and callable(getattr(values[-1], "assign", None)):
            number = keras.ops.convert_to_numpy(values[-1])
            values[-1] = number.item() if number.size == 1 else number.tolist()
            if name not in told:
                told.add(name)
                words = (
                    f"{name} is logged as a variable, which changes later: the history holds its number of each epoch"
                )
                life.here().say(Note("info", words))


def _is_shown_only(callback: Any) -> bool:
    return isinstance(callback, keras.callbacks.ProgbarLogger)


def _frozen(value: Any) -> Any:
    """Return a copy that stays as it is, whatever becomes of the variables and containers."""
    if isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value._value if value._value is not None else value.value).copy()
    if type(value) is dict:
        return {key: _frozen(each) for key, each in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(map(_frozen, value))
    if callable(getattr(value, "read_value", None)):
        return value.read_value()  # TensorFlow's own variable
    if type(value).__module__.startswith("torch"):
        return value.detach().clone()
    return value if value.__hash__ is not None and not hasattr(value, "__dict__") else copy.deepcopy(value)


def _access(value: Any, models: Sequence[Any] | None = None) -> StateAccess:
    found = keras_state.access(value, [value] if models is None else models)
    assert found is not None
    return found


def _of_the_script() -> dict[str, Any]:
    """Return the functions and classes that the script defines, by which Keras finds those that a config names."""
    return {name: each for name, each in vars(sys.modules["__main__"]).items() if callable(each)}
