"""What makes up the state of Keras objects: models, layers, optimizers, metrics, seeds; by the paths of their variables."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from supervisor.core.messages import Note
from supervisor.trainer import life
from supervisor.trainer.frameworks import keras_callbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from supervisor.trainer.frameworks.framework import StateAccess

VARIABLES, TRAINS = "variables", "trains"
SEED = "seed_generator_state"
CREATE = "create all variables before supervisor.attach(): build the model, or call it once on a batch"


def access(value: Any, models: Iterable[Any]) -> StateAccess | None:
    """Return (get, set) for a Keras object; ``models`` are those attached beside it, for which an optimizer may be made."""
    if isinstance(value, keras.callbacks.Callback):
        return keras_callbacks.access(value)
    if isinstance(value, keras.optimizers.Optimizer):
        optimizer = _OfOptimizer(value, models)
        return optimizer.get, optimizer.set
    if isinstance(value, keras.Layer):
        layer = _OfLayer(value, models)
        return layer.get, layer.set
    if isinstance(value, keras.random.SeedGenerator):
        named = Named(lambda: [value.state])
    elif isinstance(value, keras.metrics.Metric):
        named = Named(lambda: value.variables)
    else:
        return None
    return (lambda: _synced(named, models)), named.set


class InFit:
    """Stands for a Keras object that a fit may replace by another one."""

    def get(self) -> Any:
        """Return the state of the present one."""
        raise NotImplementedError

    def set(self, state: Any) -> None:
        """Put it back."""
        raise NotImplementedError


class Named:
    """Variables by path. They keep the names that a checkpoint gave them: Keras counts its own on within a process."""

    def __init__(self, variables: Callable[[], Sequence[Any]]) -> None:
        self._variables = variables
        self._names: list[str] = []

    def get(self) -> dict[str, Any]:
        """Return the variables by name."""
        variables = self._variables()
        if len(self._names) != len(variables):
            self._names = _unique([variable.path for variable in variables])
        return dict(zip(self._names, variables, strict=True))

    def set(self, kept: Mapping[str, Any]) -> None:
        """Assign the values by name, or in their order where all names are others; ValueError if they do not fit."""
        here = self.get()
        if not here and kept:
            raise ValueError(f"it has no variables yet: {CREATE}")
        if here.keys() != kept.keys():
            pairs = list(zip(here.values(), kept.values(), strict=False))
            if len(here) != len(kept) or not all(_fits(*pair) for pair in pairs):
                raise ValueError(_unlike(here, kept))
            here = dict(zip(kept, here.values(), strict=True))
            self._names = list(kept)
        for name, variable in here.items():
            if not _fits(variable, kept[name]):
                raise ValueError(f"{name} is {_spoken(kept[name])} in it and {_spoken(variable)} here")
        for name, variable in here.items():
            assign(variable, kept[name])


def assign(variable: Any, value: Any) -> None:
    """Give a variable this value, bit for bit; integers may be of another width on another backend."""
    if _dtype_of(value) != _dtype_of(variable):
        numbers = np.asarray(value if isinstance(value, list) else keras.ops.convert_to_numpy(value)).astype(np.int64)
        if variable.path.endswith(SEED):
            numbers %= 2**32  # the bits of a seed are what counts, and the width is 32 but with TensorFlow
        value = numbers.astype(_dtype_of(variable))
    variable.assign(value)


def build_optimizers(objects: Iterable[Any]) -> None:
    """Create the slots of optimizers that were not used yet, for the one model beside them."""
    objects = list(objects)
    models = [each for each in objects if isinstance(each, keras.Model) and each.built]
    for each in objects:
        if isinstance(each, keras.optimizers.Optimizer) and not each.built and models:
            each.build(models[0].trainable_variables)


class _OfLayer:
    """The variables that Keras lists of a layer or model, and what hangs on its attributes beside them."""

    def __init__(self, layer: Any, models: Iterable[Any]) -> None:
        from supervisor.trainer.frameworks import keras_held  # it needs this file

        self._key, self._held = keras_held.HELD, keras_held.of_model(layer)
        self._models, self._named = models, Named(lambda: layer.variables)

    def get(self) -> dict[str, Any]:
        variables, held = _synced(self._named, self._models), self._held.get()
        return {**variables, self._key: held} if held else variables

    def set(self, state: Mapping[str, Any]) -> None:
        self._named.set({name: value for name, value in state.items() if name != self._key})
        self._held.set(state.get(self._key, {}))


class _OfOptimizer:
    """Its variables, and the paths of those that it trains, so that it can be made for them again."""

    def __init__(self, optimizer: Any, models: Iterable[Any]) -> None:
        self._optimizer, self._models = optimizer, models
        self._named = Named(lambda: optimizer.variables)
        self._trains: list[str] = []
        self._compiled: Callable[[], Any] | None = None

    def get(self) -> dict[str, Any]:
        self._tell_if_replaced()
        trained = self._optimizer._trainable_variables if self._optimizer.built else []  # noqa: SLF001  # nothing else tells
        if len(self._trains) != len(trained):
            self._trains = [variable.path for variable in trained]
        return {VARIABLES: _synced(self._named, self._models), TRAINS: list(self._trains)}

    def set(self, state: Mapping[str, Any]) -> None:
        if state[TRAINS] and not self._optimizer.built:
            self._optimizer.build(_trained(state[TRAINS], self._models))
        self._named.set(state[VARIABLES])
        self._trains = list(state[TRAINS])

    def _tell_if_replaced(self) -> None:
        """An optimizer that is not its model's any more has nothing to train: what trains now is not kept, and this is said."""
        if self._compiled is None:
            self._compiled = next(
                (weakref.ref(each) for each in self._models if getattr(each, "optimizer", None) is self._optimizer),
                _nothing,
            )
        model = self._compiled()
        if model is not None and model.optimizer is not self._optimizer:
            self._compiled = _nothing
            name = type(model.optimizer).__name__
            words = f"compile() gave the model another optimizer ({name}) after attach(): its state is not kept, and after a "
            hint = "resume it begins again; compile once before attach(), and change its learning_rate instead"
            life.here().say(Note("warning", words + hint))


def _nothing() -> None:
    """Stand for a reference to a model that is not there."""


def _trained(paths: Sequence[str], models: Iterable[Any]) -> list[Any]:
    """Return the attached models' variables that an optimizer was made for."""
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


def _synced(named: Named, models: Iterable[Any]) -> dict[str, Any]:
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
    """Say whether form and dtype are the same; backends differ in the width of their integers."""
    ours, theirs = _form(variable), _form(value)
    return ours == theirs or (ours[1] == theirs[1] and "int" in ours[0] and "int" in theirs[0])


def _spoken(value: Any) -> str:
    dtype, shape = _form(value)
    return f"{dtype}{list(shape)}"


def _unlike(here: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    missing, extra = sorted(kept.keys() - here.keys()), sorted(here.keys() - kept.keys())
    if missing and not extra:
        return f"it holds {_some(missing)}, which is not here (yet): {CREATE}"
    if extra and not missing:
        return f"it does not hold {_some(extra)}"
    return f"it holds {_some(missing)} where here is {_some(extra)}"


def _some(names: Collection[str]) -> str:
    first = next(iter(names))
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
