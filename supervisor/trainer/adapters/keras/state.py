"""The state of Keras objects (models, layers, optimizers, metrics, seeds), by the paths of their variables."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.adapters.keras import callbacks as keras_callbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from supervisor.trainer.adapters.port import StateAccess

VARIABLES, TRAINS = "variables", "trains"
SEED = "seed_generator_state"
CREATE = "create all variables before supervisor.attach(): build the model, or call it once on a batch"


def state_access(value: Any, models: Iterable[Any]) -> StateAccess | None:
    """Return (get, set) for a Keras object; ``models`` are the attached models that an optimizer may belong to."""
    if isinstance(value, keras.callbacks.Callback):
        return keras_callbacks.state_access(value)
    if isinstance(value, keras.optimizers.Optimizer):
        optimizer = _OptimizerState(value, models)
        return optimizer.get, optimizer.set
    if isinstance(value, keras.Layer):
        layer = _LayerState(value, models)
        return layer.get, layer.set
    if isinstance(value, keras.random.SeedGenerator):
        named = NamedVariables(lambda: [value.state])
    elif isinstance(value, keras.metrics.Metric):
        named = NamedVariables(lambda: value.variables)
    else:
        return None
    return (lambda: _synced(named, models)), named.set


class ReplaceableState:
    """Represents a Keras object that a fit may replace by another one."""

    def get(self) -> Any:
        """Return the state of the current object."""
        raise NotImplementedError

    def set(self, state: Any) -> None:
        """Restore it."""
        raise NotImplementedError


class NamedVariables:
    """Variables by path. They keep the names of the checkpoint, because Keras numbers its names on within a process."""

    def __init__(self, variables: Callable[[], Sequence[Any]]) -> None:
        self._variables = variables
        self._names: list[str] = []

    def get(self) -> dict[str, Any]:
        """Return the variables by name."""
        variables = self._variables()
        if len(self._names) != len(variables):
            self._names = _unique([variable.path for variable in variables])
        return dict(zip(self._names, variables, strict=True))

    def set(self, stored: Mapping[str, Any]) -> None:
        """Assign the values by name, or by order if all names differ; ValueError if they do not fit."""
        present = self.get()
        if not present and stored:
            raise ValueError(f"it has no variables yet: {CREATE}")
        if present.keys() != stored.keys():
            pairs = list(zip(present.values(), stored.values(), strict=False))
            if len(present) != len(stored) or not all(_fits(*pair) for pair in pairs):
                raise ValueError(_mismatch(present, stored))
            present = dict(zip(stored, present.values(), strict=True))
            self._names = list(stored)
        for name, variable in present.items():
            if not _fits(variable, stored[name]):
                raise ValueError(f"{name} is {_describe(stored[name])} in it and {_describe(variable)} here")
        for name, variable in present.items():
            assign(variable, stored[name])


def assign(variable: Any, value: Any) -> None:
    """Assign this value to a variable, bit for bit; integers may have another width on another backend."""
    if _dtype_of(value) != _dtype_of(variable):
        numbers = np.asarray(value if isinstance(value, list) else keras.ops.convert_to_numpy(value)).astype(np.int64)
        if variable.path.endswith(SEED):
            numbers %= 2**32  # the bits of a seed are what counts, and the width is 32 but with TensorFlow
        value = numbers.astype(_dtype_of(variable))
    variable.assign(value)


def build_optimizers(objects: Iterable[Any]) -> None:
    """Create the slots of unused optimizers for the one model beside them."""
    objects = list(objects)
    models = [each for each in objects if isinstance(each, keras.Model) and each.built]
    for each in objects:
        if isinstance(each, keras.optimizers.Optimizer) and not each.built and models:
            each.build(models[0].trainable_variables)


class _LayerState:
    """The variables that Keras lists for a layer or model, and the state on its attributes."""

    def __init__(self, layer: Any, models: Iterable[Any]) -> None:
        from supervisor.trainer.adapters.keras import attributes as keras_attributes  # it needs this file

        self._key, self._attributes = keras_attributes.ATTRIBUTES_KEY, keras_attributes.of_model(layer)
        self._models, self._named = models, NamedVariables(lambda: layer.variables)

    def get(self) -> dict[str, Any]:
        variables, held = _synced(self._named, self._models), self._attributes.get()
        return {**variables, self._key: held} if held else variables

    def set(self, state: Mapping[str, Any]) -> None:
        self._named.set({name: value for name, value in state.items() if name != self._key})
        self._attributes.set(state.get(self._key, {}))


class _OptimizerState:
    """An optimizer's variables, and the paths of the trained variables, so that its slots can be created again."""

    def __init__(self, optimizer: Any, models: Iterable[Any]) -> None:
        self._optimizer, self._models = optimizer, models
        self._named = NamedVariables(lambda: optimizer.variables)
        self._trains: list[str] = []
        self._compiled: Callable[[], Any] | None = None

    def get(self) -> dict[str, Any]:
        self._warn_if_replaced()
        trained = self._optimizer._trainable_variables if self._optimizer.built else []  # noqa: SLF001  # no public attribute has them
        if len(self._trains) != len(trained):
            self._trains = [variable.path for variable in trained]
        return {VARIABLES: _synced(self._named, self._models), TRAINS: list(self._trains)}

    def set(self, state: Mapping[str, Any]) -> None:
        if state[TRAINS] and not self._optimizer.built:
            self._optimizer.build(_trained(state[TRAINS], self._models))
        self._named.set(state[VARIABLES])
        self._trains = list(state[TRAINS])

    def _warn_if_replaced(self) -> None:
        """Warn if compile() has replaced the model's optimizer: the new optimizer's state is not saved."""
        if self._compiled is None:
            self._compiled = next(
                (weakref.ref(each) for each in self._models if getattr(each, "optimizer", None) is self._optimizer),
                _nothing,
            )
        model = self._compiled()
        if model is not None and model.optimizer is not self._optimizer:
            self._compiled = _nothing
            name = type(model.optimizer).__name__
            message = f"compile() gave the model another optimizer ({name}) after attach(): its state is not kept, and after a "
            hint = "resume it begins again; compile once before attach(), and change its learning_rate instead"
            trainer_context.current().send(TrainerNote("warning", message + hint))


def _nothing() -> None:
    """Represent a reference to a missing model."""


def _trained(paths: Sequence[str], models: Iterable[Any]) -> list[Any]:
    """Return the attached models' variables that an optimizer trains."""
    found: dict[str, Any] = {}
    for model in models:
        found |= {variable.path: variable for variable in model.variables}
    if all(path in found for path in paths):
        return [found[path] for path in paths]
    alike = [model for model in models if len(model.trainable_variables) == len(paths)]
    if len(alike) == 1:
        return list(alike[0].trainable_variables)
    raise ValueError(
        "the optimizer has no slots yet, and which variables it is for is not known: attach its model beside it, or call "
        "optimizer.build(model.trainable_variables) before supervisor.attach()"
    )


def _synced(named: NamedVariables, models: Iterable[Any]) -> dict[str, Any]:
    for model in models:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()  # on jax, fit() holds the state elsewhere while it runs
    return named.get()


def _unique(paths: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for path in paths:
        name, count = path, 1
        while name in names:
            count += 1
            name = f"{path}~{count}"
        names[name] = None
    return list(names)


def _form(value: Any) -> tuple[str, tuple[int, ...]]:
    return _dtype_of(value), tuple(value.shape)


def _dtype_of(value: Any) -> str:
    if isinstance(value, keras.Variable):
        return str(value._dtype)  # noqa: SLF001  # dtype is another in an autocast scope
    return "" if isinstance(value, list) else keras.backend.standardize_dtype(value.dtype)


def _fits(variable: Any, value: Any) -> bool:
    """Return whether shape and dtype are equal; backends differ in the width of their integers."""
    ours, theirs = _form(variable), _form(value)
    return ours == theirs or (ours[1] == theirs[1] and "int" in ours[0] and "int" in theirs[0])


def _describe(value: Any) -> str:
    dtype, shape = _form(value)
    return f"{dtype}{list(shape)}"


def _mismatch(present: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    missing, extra = sorted(stored.keys() - present.keys()), sorted(present.keys() - stored.keys())
    if missing and not extra:
        return f"it holds {_shortened(missing)}, which is not here (yet): {CREATE}"
    if extra and not missing:
        return f"it does not hold {_shortened(extra)}"
    return f"it holds {_shortened(missing)} where here is {_shortened(extra)}"


def _shortened(names: Collection[str]) -> str:
    first = next(iter(names))
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
