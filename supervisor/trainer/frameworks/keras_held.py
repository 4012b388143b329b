"""State that hangs on Keras objects by their attributes only: further optimizers, variables, generators, metrics, networks.

Keras lists none of it in ``model.variables``. Each is kept under its path, as ``1 LSTM.states.0``, and put back where it is.
"""

from __future__ import annotations

import random
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from supervisor.trainer import frameworks
from supervisor.trainer.frameworks import keras_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from supervisor.trainer.frameworks.framework import StateAccess

HELD = "<held>"
DEPTH_MAX = 3
SHOWN_OF_LONG = 16
LONG = 1000
_PLAIN = {type(None), bool, int, float, complex, str, bytes, np.ndarray, type}
_LIBRARIES = {
    "keras", "tensorflow", "torch", "jax", "numpy", "builtins", "threading", "tqdm", "logging", "io", "_io", "supervisor",
}  # fmt: skip
# Keras's own bookkeeping, by which it lists what it lists.
INTERNAL = frozenset({
    "_tracker", "_tracked", "_trainable_variables", "_non_trainable_variables", "_layers", "_metrics",
    "_seed_generators", "_lock", "_auto_config", "build", "quantize", "_run_eagerly", "_jit_compile", "compiled",
    "loss", "steps_per_execution", "_initial_epoch", "_compile_loss", "_compute_loss_has_training_arg",
    "_compile_metrics", "_loss_tracker", "train_function", "test_function", "predict_function",
    "unrolled_steps_per_execution", "_distribute_strategy", "_saved_model_inputs_spec", "_saved_model_arg_spec",
    "name", "_inbound_nodes", "_outbound_nodes", "_remat_mode", "_dtype_policy", "activity_regularizer", "_path",
    "built", "autocast", "_input_spec", "_called", "supports_jit", "_losses", "_loss_ids", "_losses_override",
    "_call_signature", "call_signature_parameters", "_call_has_training_arg", "_call_has_mask_arg",
    "_call_context_args", "_call_has_context_arg", "_supports_masking", "_convert_input_args",
    "_allow_non_tensor_positional_args", "_build_shapes_dict", "_parent_path", "_functional", "optimizer",
    "stop_training", "_compiled_trainable_state", "_compile_config", "_eval_epoch_iterator", "history",
    "_variables", "_trainable_variables_indices", "_dtype", "_expected_batch_size", "_iterations", "_learning_rate",
    "_distribution_strategy", "_flat_losses", "_user_loss", "_flat_metrics", "_flat_weighted_metrics", "training",
    "_parameters", "_buffers", "_modules", "_torch_params", "torch_params", "_non_persistent_buffers_set",
    "_jax_state", "_operations", "_operations_by_depth", "_nodes", "_nodes_by_depth", "_inputs", "_outputs",
    "_inputs_struct", "_outputs_struct", "_trainable",
})  # fmt: skip
OF_CALLBACKS = frozenset({"model", "_model", "params", "validation_data"})
_KERAS = (keras.optimizers.Optimizer, keras.Layer, keras.metrics.Metric, keras.random.SeedGenerator)


class Found(NamedTuple):
    """Something with a state; ``kind`` says as what it can be made again where it is not there yet."""

    kind: str
    get: Callable[[], Any]
    set: Callable[[Any], None]


class Held:
    """What hangs on ``owners()``, pairs of a path and an object; ``known()`` are the objects that are kept elsewhere."""

    def __init__(
        self, owners: Callable[[], Iterable[tuple[str, Any]]], known: Callable[[], Iterable[Any]], model: Any = None
    ) -> None:
        self._owners, self._known, self._model = owners, known, model

    def get(self) -> dict[str, Any]:
        """Return the state of each by path."""
        return {path: {"kind": found.kind, "state": found.get()} for path, found in self.found()}

    def set(self, kept: Mapping[str, Any]) -> None:
        """Put it back in place. A variable whose attribute is still empty is made; what has no place is left to be told."""
        here = dict(self.found())
        for path, each in kept.items():
            if path not in here and each["kind"] in _MADE:
                self._make(path, each)
            elif path in here:
                here[path].set(each["state"])

    def found(self) -> Iterator[tuple[str, Found]]:
        """Yield path and access of each, the same one only once."""
        known = {id(each) for each in self._known()}
        values = {
            path: value
            for prefix, owner in self._owners()
            for name, each in attributes(owner)
            for path, value in _under(f"{prefix}.{name}" if prefix else name, each, 0, known)
        }
        networks = [each for each in (self._model, *values.values()) if isinstance(each, keras.Layer)]
        for path, value in values.items():
            if (found := access(value, networks)) is not None:
                yield path, found

    def _make(self, path: str, each: Mapping[str, Any]) -> None:
        """Make a variable in an attribute that is None, or in a list that is still too short."""
        for prefix, owner in self._owners():
            head = f"{prefix}." if prefix else ""
            name, _, place = path.removeprefix(head).partition(".")
            if not path.startswith(head) or "." in place:
                continue
            held, made = getattr(owner, name, None), _MADE[each["kind"]](each["state"])
            if not place and held is None:
                setattr(owner, name, made)
            elif place.isdigit() and (held is None or (isinstance(held, list) and len(held) == int(place))):
                setattr(owner, name, [*(held or []), made])
            elif place and isinstance(held, dict) and place not in held:
                held[place] = made


def _under(path: str, value: Any, depth: int, known: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield path and object of all with a state in and under a value, and note them as known."""
    if type(value) in _PLAIN or id(value) in known:
        return
    if has_state(value):
        known.add(id(value))
        yield path, value
    elif depth < DEPTH_MAX:
        for name, inner in children(value):
            yield from _under(f"{path}.{name}", inner, depth + 1, known)


def access(value: Any, networks: Sequence[Any]) -> Found | None:
    """Return how the state of a single object is got and put back; ``networks``: what an optimizer may be for."""
    if isinstance(value, keras.Variable):
        return Found("keras.Variable", lambda: value, lambda kept: keras_state.assign(value, kept))
    kind = type(value).__name__
    if "tensorflow" in sys.modules and not isinstance(value, _KERAS):
        from supervisor.trainer.frameworks import tensorflow_objects

        if (found := tensorflow_objects.access(value)) is not None:
            return Found(tensorflow_objects.kind(value), *found)
    accesses: StateAccess | None = None
    if isinstance(value, _KERAS):
        accesses = keras_state.access(value, networks)
    elif isinstance(value, np.random.Generator | np.random.RandomState):
        accesses = frameworks.named("numpy").access(value)
    elif isinstance(value, random.Random):
        accesses = value.getstate, value.setstate
    elif _is_torch_generator(value):
        accesses = frameworks.named("torch").access(value)
    elif not isinstance(value, type | keras.callbacks.Callback | keras.utils.PyDataset):
        get, put = getattr(value, "state_dict", None), getattr(value, "load_state_dict", None)
        accesses = (get, put) if callable(get) and callable(put) else None
    return None if accesses is None else Found(kind, *accesses)


def _is_torch_generator(value: Any) -> bool:
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Generator)


_stateful: dict[type, bool] = {}  # asked for each attribute of each layer at each save


def has_state(value: Any) -> bool:
    """Say whether it is kept for itself, which follows from its class."""
    kind = type(value)
    if kind not in _stateful:
        _stateful[kind] = access(value, ()) is not None
    return _stateful[kind]


def is_whole(value: Any) -> bool:
    """Say whether nothing is in a value but what is kept for itself, so that it comes back whole."""
    if has_state(value):
        return True
    inner = list(children(value)) if isinstance(value, dict | list | tuple) else []
    return bool(inner) and all(is_whole(each) for _, each in inner)


def is_of_a_library(value: Any) -> bool:
    """Say whether its class is none of the script's own."""
    return isinstance(value, type) or type(value).__module__.partition(".")[0] in _LIBRARIES


def untracked(value: Any) -> Any:
    """Return a container that Keras or TensorFlow has put its own around as the plain one that the script has set."""
    if type(value).__module__.partition(".")[0] not in {"keras", "tensorflow"}:
        return value
    if isinstance(value, dict):
        return {key: untracked(each) for key, each in value.items()}
    for kind in (list, set, tuple):
        if isinstance(value, kind):
            return kind(map(untracked, value))
    return value


def attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that may hold something of the script's: not Keras's own bookkeeping."""
    own = type(owner).__module__.startswith("keras.")
    internal = INTERNAL if isinstance(owner, (*_KERAS, keras.losses.Loss)) else OF_CALLBACKS
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if name not in internal and not name.startswith(("_self_", "__")) and not (own and name.startswith("_")):
            yield name, value


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container holds, a function refers to, and an object of the script's own classes has."""
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
        if len(value) > LONG and all(type(each) in _PLAIN for each in value[:SHOWN_OF_LONG]):
            return
    elif isinstance(value, FunctionType):
        items = _referred(value)
    elif isinstance(value, MethodType):
        items = [] if isinstance(value.__self__, keras.Layer) else [("self", value.__self__)]
    elif is_of_a_library(value):
        return
    else:
        items = attributes(value)
    for key, each in items:
        if isinstance(key, str | int):
            yield str(key), each


def model_owners(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and object of a model, its layers and sublayers, its compiled loss, and its metrics."""
    layers = list(model._flatten_layers())  # noqa: SLF001  # no public name goes through all levels
    for number, layer in enumerate(layers):
        yield f"{number} {type(layer).__name__}", layer
    for number, each in enumerate(_leaves(getattr(model, "loss", None))):
        if not isinstance(each, str):
            yield f"loss {number}", _Functions(each) if isinstance(each, FunctionType) else each
    for number, each in enumerate(getattr(model, "metrics", ())):
        yield f"metric {number}", each


def model_known(model: Any) -> Iterator[Any]:
    """Yield what Keras lists of a model, and its optimizer, which is attached beside it."""
    yield model
    yield from model._flatten_layers()  # noqa: SLF001  # as above
    yield from model.variables
    for metric in getattr(model, "metrics", ()):
        yield metric
        yield from metric.variables
    yield from _seeds(model)
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None:
        yield optimizer
        yield from optimizer.variables
        optimizer = getattr(optimizer, "inner_optimizer", None)


def of_model(model: Any) -> Held:
    """Return what hangs on a model."""
    return Held(lambda: model_owners(model), lambda: model_known(model), model)


class _Functions:
    """Stands for a function, so that what it refers to is found as an attribute."""

    def __init__(self, function: Any) -> None:
        self.function = function


def _seeds(model: Any) -> Iterator[Any]:
    for layer in model._flatten_layers():  # noqa: SLF001  # as above
        yield from getattr(layer, "_seed_generators", ())


def _leaves(loss: Any) -> list[Any]:
    return [] if loss is None else [each for each in keras.tree.flatten(loss) if each is not None]


def _referred(function: FunctionType) -> list[tuple[str, Any]]:
    """Return what a function has from around it: variables of an outer function, and of its module."""
    inside = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    found = []
    for name, cell in inside:
        try:
            found.append((name, cell.cell_contents))
        except ValueError:
            continue  # it is not set yet
    names = function.__code__.co_names
    around = [(name, function.__globals__[name]) for name in names if name in function.__globals__]
    return found + [(name, value) for name, value in around if not isinstance(value, FunctionType | type)]


def _tf_variable(value: Any) -> Any:
    import tensorflow as tf

    return tf.Variable(value)


_MADE: dict[str, Callable[[Any], Any]] = {"keras.Variable": keras.Variable, "tf.Variable": _tf_variable}
