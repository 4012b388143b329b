"""The state of TensorFlow object graphs (tf.train.Checkpoint, tf.Module, iterators …), by path.

The paths are those of TensorFlow's own checkpoints. A variable is saved as it is. Other stateful objects give and take tensors,
as for those checkpoints, but without their files.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.trackable.base import Trackable
from tensorflow.python.training.saving.saveable_object_util import trackable_has_serialize_to_tensor

from supervisor.trainer.adapters.plain import ReadAhead
from supervisor.trainer.errors import UnsupportedStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.trainer.adapters.port import StateAccess

SHOWN_MAX = 3
SAVE_COUNTER = "save_counter"  # tf.train.Checkpoint makes it when it first saves
TRAINS = "<trains>"  # of an optimizer of Keras: the paths of the variables that it was built for


def state_access(value: Any) -> StateAccess | None:
    """Return (get, set) for an object that TensorFlow's checkpoints can hold."""
    if isinstance(value, tf.data.Dataset):
        raise UnsupportedStateError(
            "data", "a tf.data.Dataset has no position", "attach what the loop goes over: data=iter(dataset)"
        )
    if not isinstance(value, Trackable) or isinstance(value, tf.Tensor):
        return None
    return (lambda: _state(value)), (lambda state: _set(value, state))


def _state(root: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    _refuse_without_variables(root)
    for path, held in _stateful(root):
        if isinstance(held, tf.Variable):
            state[path] = held
        else:
            state |= {f"{path}/{key}": _serialized(value) for key, value in _tensors(held, path).items()}
    return state | _trained_paths(root)


def _set(root: Any, stored: Mapping[str, Any]) -> None:
    state = {path: value for path, value in stored.items() if not _is_of_trains(path)}
    if SAVE_COUNTER in state and isinstance(root, tf.train.Checkpoint):
        root.save_counter  # noqa: B018  # asking for it makes it
    held = dict(_stateful(root))
    if state.keys() - _paths(held) and "keras" in sys.modules:
        from supervisor.trainer.adapters.keras import state as keras_state

        _build_optimizers(root, stored)
        keras_state.build_optimizers(
            [each for _, each in _walk(root)]
        )  # an earlier checkpoint does not name the variables
        held = dict(_stateful(root))
    _refuse_others(state.keys(), _paths(held))
    for path, each in held.items():
        if isinstance(each, tf.Variable):
            _refuse_other_form(path, each, state[path])
            each.assign(state[path])
        else:
            tensors = {key: _deserialized(state[f"{path}/{key}"]) for key in _tensors(each, path)}
            each._restore_from_tensors(tensors)  # noqa: SLF001  # as TensorFlow's own checkpoints do


def _trained_paths(root: Any) -> dict[str, Any]:
    """Return for each Keras optimizer the paths of its trained variables, so that its slots can be created again."""
    if "keras" not in sys.modules:
        return {}
    found = {}
    places = {id(each): path for path, each in _walk(root, into_optimizers=False)}
    for path, optimizer in _optimizers(root):
        trained = optimizer._trainable_variables if optimizer.built else []  # noqa: SLF001  # no public attribute has them
        names = [places.get(id(variable)) for variable in trained]
        if names and None not in names:
            found[f"{path}/{TRAINS}" if path else TRAINS] = names
    return found


def _build_optimizers(root: Any, stored: Mapping[str, Any]) -> None:
    present = dict(_walk(root, into_optimizers=False))
    for path, optimizer in _optimizers(root):
        names = stored.get(f"{path}/{TRAINS}" if path else TRAINS, [])
        if names and not optimizer.built and all(name in present for name in names):
            optimizer.build([present[name] for name in names])


def _refuse_without_variables(root: Any) -> None:
    """Reject at attach() an object without variables, because a fresh process could not restore them."""
    if "keras" not in sys.modules:
        return
    import keras

    variables = False
    for path, each in _walk(root, into_optimizers=False):
        variables |= isinstance(each, tf.Variable | keras.Variable) and path != SAVE_COUNTER
        if isinstance(each, keras.Model) and not each.built and not each.variables:
            raise UnsupportedStateError(
                path or "model",
                f"{type(each).__name__} has no variables yet, so that a resume could not put them back",
                "call the model once on a batch, or its build(input_shape), before supervisor.attach()",
            )
    for path, optimizer in () if variables else _optimizers(root):
        if not optimizer.built:
            raise UnsupportedStateError(
                path or "optimizer",
                "it has no slots yet, and what it trains is not in this checkpoint, so that a resume could not make them",
                "put its model beside it, or call optimizer.build(model.trainable_variables) before supervisor.attach()",
            )


def _optimizers(root: Any) -> list[tuple[str, Any]]:
    import keras

    return [(path, each) for path, each in _walk(root) if isinstance(each, keras.optimizers.Optimizer)]


def _is_of_trains(path: str) -> bool:
    return path.rpartition("/")[2] == TRAINS


def _stateful(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and object of everything under ``root`` with a state of its own."""
    for path, each in _walk(root):
        variable = each if isinstance(each, tf.Variable) else getattr(each, "_value", None)
        if isinstance(variable, tf.Variable):  # also a Keras variable's, which holds one of these
            yield path, variable
        elif isinstance(each, tf.compat.v1.train.Optimizer):
            raise UnsupportedStateError(
                path or "optimizer", "the slots of a TensorFlow 1 optimizer cannot be kept", "use tf.keras.optimizers"
            )
        elif not isinstance(each, tf.data.Dataset) and trackable_has_serialize_to_tensor(each):
            yield path, each


def _walk(root: Any, *, into_optimizers: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the objects of the graph with the shortest path to each, the nearest first."""
    keras = sys.modules.get("keras")
    ends = (keras.optimizers.Optimizer,) if keras is not None and not into_optimizers else ()
    seen, level = {id(root)}, [("", root)]
    while level:
        below = []
        for path, each in level:
            yield path, each
            if isinstance(each, ends):
                continue
            for name, child in tf.train.TrackableView.children(each).items():
                if id(child) not in seen:
                    seen.add(id(child))
                    below.append((f"{path}/{name}" if path else name, child))
        level = below


def _tensors(held: Any, path: str) -> dict[str, Any]:
    """Return the tensors that an object gives to TensorFlow's checkpoints."""
    try:
        found: dict[str, Any] = held._serialize_to_tensors()  # noqa: SLF001  # as TensorFlow's own checkpoints do
    except tf.errors.OpError as error:
        raise UnsupportedStateError(
            path or "data",
            f"a {type(held).__name__} cannot tell its position: {str(error).partition(chr(10))[0]}",
            "leave Python functions (from_generator, py_function) out of the tf.data pipeline, or keep the position as a "
            "number and make the dataset from it",
        ) from error
    return found


def _serialized(value: Any) -> Any:
    """Return a tensor as it is, or as bytes if only TensorFlow can read it, as with tf.data's iterators."""
    value = value() if callable(value) else value
    return ReadAhead(tf.io.serialize_tensor(value).numpy()) if value.dtype == tf.variant else value


def _deserialized(stored: Any) -> Any:
    return tf.io.parse_tensor(stored, tf.variant) if isinstance(stored, bytes) else stored


def _paths(held: Mapping[str, Any]) -> set[str]:
    return {
        name
        for path, each in held.items()
        for name in ([path] if isinstance(each, tf.Variable) else [f"{path}/{key}" for key in _tensors(each, path)])
    }


def _refuse_others(stored: Iterable[str], present: Iterable[str]) -> None:
    missing, extra = sorted(set(stored) - set(present)), sorted(set(present) - set(stored))
    if missing:
        raise ValueError(
            f"it holds {_shortened(missing)}, which this object has not (yet): create all variables before "
            "supervisor.attach(), by calling the model once and optimizer.build(variables)"
        )
    if extra:
        raise ValueError(f"it does not hold {_shortened(extra)}, which this object has")


def _refuse_other_form(path: str, variable: Any, stored: Any) -> None:
    if stored.dtype != variable.dtype or not variable.shape.is_compatible_with(stored.shape):
        was, present = (f"{each.dtype.name}{list(each.shape)}" for each in (stored, variable))
        raise ValueError(f"{path} is {was} in it and {present} here")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more
