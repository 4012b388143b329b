"""State on attributes of Keras objects: further optimizers, variables, generators, metrics, networks.

Keras lists none of it in ``model.variables``. Each is saved under its path, such as ``1 LSTM.states.0``, and restored in place.
"""

from __future__ import annotations

import random
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from supervisor.trainer import adapters
from supervisor.trainer.adapters.keras import state as keras_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from supervisor.trainer.adapters.port import StateAccess

ATTRIBUTES_KEY = "<held>"
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


class FoundAttribute(NamedTuple):
    """An attribute with a state. ``kind`` names the class to create if the attribute does not exist yet."""

    kind: str
    get: Callable[[], Any]
    set: Callable[[Any], None]


class AttributeState:
    """The state on the attributes of ``owners()``, pairs of path and object.

    ``known()`` are objects that are saved elsewhere.
    """

    def __init__(
        self, owners: Callable[[], Iterable[tuple[str, Any]]], known: Callable[[], Iterable[Any]], model: Any = None
    ) -> None:
        self._owners, self._known, self._model = owners, known, model

    def get(self) -> dict[str, Any]:
        """Return the state of each attribute by path."""
        return {path: {"kind": found.kind, "state": found.get()} for path, found in self.found()}

    def set(self, stored: Mapping[str, Any]) -> None:
        """Restore the attributes in place.

        A variable is created if its attribute is still empty; other missing paths are ignored.
        """
        present = dict(self.found())
        for path, each in stored.items():
            if path not in present and each["kind"] in _CREATE:
                self._create(path, each)
            elif path in present:
                present[path].set(each["state"])

    def found(self) -> Iterator[tuple[str, FoundAttribute]]:
        """Yield path and access of each attribute, each object only once."""
        known = {id(each) for each in self._known()}
        values = {
            path: value
            for prefix, owner in self._owners()
            for name, each in attributes(owner)
            for path, value in _stateful_under(f"{prefix}.{name}" if prefix else name, each, 0, known)
        }
        networks = [each for each in (self._model, *values.values()) if isinstance(each, keras.Layer)]
        for path, value in values.items():
            if (found := state_access(value, networks)) is not None:
                yield path, found

    def _create(self, path: str, each: Mapping[str, Any]) -> None:
        """Create a variable in an attribute that is None, or in a list that is still too short."""
        for prefix, owner in self._owners():
            head = f"{prefix}." if prefix else ""
            name, _, place = path.removeprefix(head).partition(".")
            if not path.startswith(head) or "." in place:
                continue
            held, made = getattr(owner, name, None), _CREATE[each["kind"]](each["state"])
            if not place and held is None:
                setattr(owner, name, made)
            elif place.isdigit() and (held is None or (isinstance(held, list) and len(held) == int(place))):
                setattr(owner, name, [*(held or []), made])
            elif place and isinstance(held, dict) and place not in held:
                held[place] = made


def _stateful_under(path: str, value: Any, depth: int, known: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield path and object of every stateful value in and under a value, and note them as known."""
    if type(value) in _PLAIN or id(value) in known:
        return
    if has_state(value):
        known.add(id(value))
        yield path, value
    elif depth < DEPTH_MAX:
        for name, inner in children(value):
            yield from _stateful_under(f"{path}.{name}", inner, depth + 1, known)


def state_access(value: Any, networks: Sequence[Any]) -> FoundAttribute | None:
    """Return how to get and set the state of a single object.

    ``networks``: the models that an optimizer may belong to.
    """
    if isinstance(value, keras.Variable):
        return FoundAttribute("keras.Variable", lambda: value, lambda stored: keras_state.assign(value, stored))
    kind = type(value).__name__
    if "tensorflow" in sys.modules and not isinstance(value, _KERAS):
        from supervisor.trainer.adapters.tensorflow import objects as tensorflow_objects

        if (found := tensorflow_objects.state_access(value)) is not None:
            return FoundAttribute(tensorflow_objects.kind(value), *found)
    accesses: StateAccess | None = None
    if isinstance(value, _KERAS):
        accesses = keras_state.state_access(value, networks)
    elif isinstance(value, np.random.Generator | np.random.RandomState):
        accesses = adapters.named("numpy").state_access(value)
    elif isinstance(value, random.Random):
        accesses = value.getstate, value.setstate
    elif _is_torch_generator(value):
        accesses = adapters.named("torch").state_access(value)
    elif not isinstance(value, type | keras.callbacks.Callback | keras.utils.PyDataset):
        get, put = getattr(value, "state_dict", None), getattr(value, "load_state_dict", None)
        accesses = (get, put) if callable(get) and callable(put) else None
    return None if accesses is None else FoundAttribute(kind, *accesses)


def _is_torch_generator(value: Any) -> bool:
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Generator)


_stateful: dict[type, bool] = {}  # read for each attribute of each layer at each save


def has_state(value: Any) -> bool:
    """Return whether values of this class are saved separately."""
    kind = type(value)
    if kind not in _stateful:
        _stateful[kind] = state_access(value, ()) is not None
    return _stateful[kind]


def is_whole(value: Any) -> bool:
    """Return whether a value consists of separately saved parts only, so that it comes back completely."""
    if has_state(value):
        return True
    inner = list(children(value)) if isinstance(value, dict | list | tuple) else []
    return bool(inner) and all(is_whole(each) for _, each in inner)


def is_of_a_library(value: Any) -> bool:
    """Return whether its class is not the script's own."""
    return isinstance(value, type) or type(value).__module__.partition(".")[0] in _LIBRARIES


def unwrapped(value: Any) -> Any:
    """Return a container without the wrapper that Keras or TensorFlow has put around it."""
    if type(value).__module__.partition(".")[0] not in {"keras", "tensorflow"}:
        return value
    if isinstance(value, dict):
        return {key: unwrapped(each) for key, each in value.items()}
    for kind in (list, set, tuple):
        if isinstance(value, kind):
            return kind(map(unwrapped, value))
    return value


def attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that may hold the script's state, without Keras's own bookkeeping."""
    own = type(owner).__module__.startswith("keras.")
    internal = INTERNAL if isinstance(owner, (*_KERAS, keras.losses.Loss)) else OF_CALLBACKS
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if name not in internal and not name.startswith(("_self_", "__")) and not (own and name.startswith("_")):
            yield name, value


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the items of a container, the references of a function, and the attributes of the script's own objects."""
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
        if len(value) > LONG and all(type(each) in _PLAIN for each in value[:SHOWN_OF_LONG]):
            return
    elif isinstance(value, FunctionType):
        items = _referenced(value)
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
    """Yield the objects that Keras lists for a model, and its optimizer, which is attached beside it."""
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


def of_model(model: Any) -> AttributeState:
    """Return the attribute state of a model."""
    return AttributeState(lambda: model_owners(model), lambda: model_known(model), model)


class _Functions:
    """Represents a function, so that its references are found as attributes."""

    def __init__(self, function: Any) -> None:
        self.function = function


def _seeds(model: Any) -> Iterator[Any]:
    for layer in model._flatten_layers():  # noqa: SLF001  # as above
        yield from getattr(layer, "_seed_generators", ())


def _leaves(loss: Any) -> list[Any]:
    return [] if loss is None else [each for each in keras.tree.flatten(loss) if each is not None]


def _referenced(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the variables of an outer function and of the module that a function refers to."""
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


_CREATE: dict[str, Callable[[Any], Any]] = {"keras.Variable": keras.Variable, "tf.Variable": _tf_variable}
