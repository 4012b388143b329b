"""The state of TensorFlow objects that hold other objects (tf.train.Checkpoint, tf.Module, iterators …), by path in their graph.

The paths are those of TensorFlow's own checkpoints. A variable is kept as it is; whatever else has a state gives and takes
tensors, as it does for those checkpoints, but none of it goes through a file of theirs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.trackable.base import Trackable
from tensorflow.python.training.saving.saveable_object_util import trackable_has_serialize_to_tensor

from supervisor.trainer.frameworks.plain import ReadAhead
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.trainer.frameworks.framework import StateAccess

SHOWN_MAX = 3
SAVE_COUNTER = "save_counter"  # tf.train.Checkpoint makes it when it first saves
TRAINS = "<trains>"  # of an optimizer of Keras: the paths of the variables that it was built for


def access(value: Any) -> StateAccess | None:
    """Return (get, set) for an object that TensorFlow's checkpoints can hold."""
    if isinstance(value, tf.data.Dataset):
        raise RefusedError(
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
            state |= {f"{path}/{key}": _kept(value) for key, value in _tensors(held, path).items()}
    return state | _trained(root)


def _set(root: Any, kept: Mapping[str, Any]) -> None:
    state = {path: value for path, value in kept.items() if not _is_of_trains(path)}
    if SAVE_COUNTER in state and isinstance(root, tf.train.Checkpoint):
        root.save_counter  # noqa: B018  # asking for it makes it
    held = dict(_stateful(root))
    if state.keys() - _paths(held) and "keras" in sys.modules:
        from supervisor.trainer.frameworks import keras_state

        _build_optimizers(root, kept)
        keras_state.build_optimizers([each for _, each in _under(root)])  # a checkpoint of before does not say for what
        held = dict(_stateful(root))
    _refuse_others(state.keys(), _paths(held))
    for path, each in held.items():
        if isinstance(each, tf.Variable):
            _refuse_other_form(path, each, state[path])
            each.assign(state[path])
        else:
            tensors = {key: _tensor(state[f"{path}/{key}"]) for key in _tensors(each, path)}
            each._restore_from_tensors(tensors)  # noqa: SLF001  # as TensorFlow's own checkpoints do


def _trained(root: Any) -> dict[str, Any]:
    """Return for each of Keras's optimizers the paths of what it trains, so that it can be built for the same again."""
    if "keras" not in sys.modules:
        return {}
    found = {}
    places = {id(each): path for path, each in _under(root, into_optimizers=False)}
    for path, optimizer in _optimizers(root):
        trained = optimizer._trainable_variables if optimizer.built else []  # noqa: SLF001  # nothing else tells
        names = [places.get(id(variable)) for variable in trained]
        if names and None not in names:
            found[f"{path}/{TRAINS}" if path else TRAINS] = names
    return found


def _build_optimizers(root: Any, kept: Mapping[str, Any]) -> None:
    here = dict(_under(root, into_optimizers=False))
    for path, optimizer in _optimizers(root):
        names = kept.get(f"{path}/{TRAINS}" if path else TRAINS, [])
        if names and not optimizer.built and all(name in here for name in names):
            optimizer.build([here[name] for name in names])


def _refuse_without_variables(root: Any) -> None:
    """Refuse at attach() what a fresh process could not put back, because there it is as empty as it is now."""
    if "keras" not in sys.modules:
        return
    import keras

    variables = False
    for path, each in _under(root, into_optimizers=False):
        variables |= isinstance(each, tf.Variable | keras.Variable) and path != SAVE_COUNTER
        if isinstance(each, keras.Model) and not each.built and not each.variables:
            raise RefusedError(
                path or "model",
                f"{type(each).__name__} has no variables yet, so that a resume could not put them back",
                "call the model once on a batch, or its build(input_shape), before supervisor.attach()",
            )
    for path, optimizer in () if variables else _optimizers(root):
        if not optimizer.built:
            raise RefusedError(
                path or "optimizer",
                "it has no slots yet, and what it trains is not in this checkpoint, so that a resume could not make them",
                "put its model beside it, or call optimizer.build(model.trainable_variables) before supervisor.attach()",
            )


def _optimizers(root: Any) -> list[tuple[str, Any]]:
    import keras

    return [(path, each) for path, each in _under(root) if isinstance(each, keras.optimizers.Optimizer)]


def _is_of_trains(path: str) -> bool:
    return path.rpartition("/")[2] == TRAINS


def _stateful(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and object of everything under ``root`` that has a state of its own."""
    for path, each in _under(root):
        variable = each if isinstance(each, tf.Variable) else getattr(each, "_value", None)
        if isinstance(variable, tf.Variable):  # also a Keras variable's, which holds one of these
            yield path, variable
        elif isinstance(each, tf.compat.v1.train.Optimizer):
            raise RefusedError(
                path or "optimizer", "the slots of a TensorFlow 1 optimizer cannot be kept", "use tf.keras.optimizers"
            )
        elif not isinstance(each, tf.data.Dataset) and trackable_has_serialize_to_tensor(each):
            yield path, each


def _under(root: Any, *, into_optimizers: bool = True) -> Iterator[tuple[str, Any]]:
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
    """Return what an object gives to TensorFlow's checkpoints."""
    try:
        found: dict[str, Any] = held._serialize_to_tensors()  # noqa: SLF001  # as TensorFlow's own checkpoints do
    except tf.errors.OpError as error:
        raise RefusedError(
            path or "data",
            f"a {type(held).__name__} cannot tell its position: {str(error).partition(chr(10))[0]}",
            "leave Python functions (from_generator, py_function) out of the tf.data pipeline, or keep the position as a "
            "number and make the dataset from it",
        ) from error
    return found


def _kept(value: Any) -> Any:
    """Return a tensor as it is, and one that only TensorFlow can look into (tf.data's iterators have those) as bytes."""
    value = value() if callable(value) else value
    return ReadAhead(tf.io.serialize_tensor(value).numpy()) if value.dtype == tf.variant else value


def _tensor(kept: Any) -> Any:
    return tf.io.parse_tensor(kept, tf.variant) if isinstance(kept, bytes) else kept


def _paths(held: Mapping[str, Any]) -> set[str]:
    return {
        name
        for path, each in held.items()
        for name in ([path] if isinstance(each, tf.Variable) else [f"{path}/{key}" for key in _tensors(each, path)])
    }


def _refuse_others(kept: Iterable[str], here: Iterable[str]) -> None:
    missing, extra = sorted(set(kept) - set(here)), sorted(set(here) - set(kept))
    if missing:
        raise ValueError(
            f"it holds {_some(missing)}, which this object has not (yet): create all variables before "
            "supervisor.attach(), by calling the model once and optimizer.build(variables)"
        )
    if extra:
        raise ValueError(f"it does not hold {_some(extra)}, which this object has")


def _refuse_other_form(path: str, variable: Any, kept: Any) -> None:
    if kept.dtype != variable.dtype or not variable.shape.is_compatible_with(kept.shape):
        was, here = (f"{each.dtype.name}{list(each.shape)}" for each in (kept, variable))
        raise ValueError(f"{path} is {was} in it and {here} here")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more
