"""Plain attributes of the model, its layers, loss, metrics and optimizer that change within a fit, and what changes unkept.

A number that a callback sets on a layer counts from the next trace on: with a traced train function it is put back after the
first step, where the trace has taken the number that the script begins with, as it had in the process before.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from supervisor.core.messages import Note
from supervisor.trainer import life
from supervisor.trainer.frameworks import keras_callbacks, keras_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ITEMS_MAX = 2000  # of one attribute that are looked at
BYTES_MAX = 1 << 20
SAMPLES = 4096
DEPTH_MAX = 4
TRAINABLE = "trainable"
_SCALARS = {type(None), bool, int, float, str}
_NO_STATE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)


class Attributes:
    """``eager``: the train function looks at the attributes at each step. Made when all callbacks have begun."""

    def __init__(self, model: Any, callbacks: Sequence[Any], *, eager: bool) -> None:
        self._model, self._callbacks, self._eager = model, callbacks, eager
        self._before = {key: digest(value) for key, _, value in self._plain()}
        self._unkept_before = {key: digest(value) for key, _, value in self._unkept()}
        self._late: dict[str, Any] = {}
        self._told: set[str] = set()
        self._saves = 0

    def get(self) -> dict[str, Any]:
        """Return those plain attributes that are not as they were when the fit began, by path."""
        changed = {key: value for key, _, value in self._plain() if digest(value) != self._before.get(key)}
        return {**changed, **self._late}

    def set(self, kept: Mapping[str, Any]) -> None:
        """Put them back: now where that is seen at the next step, else after it."""
        self._late = dict(kept)
        if self._eager:
            self.traced()

    def traced(self) -> None:
        """The train function is traced: from here on the attributes are as they were kept."""
        if self._late:
            late, self._late = self._late, {}
            owners = {f"{path}.{name}": (owner, name) for path, owner in self._owners() for name in _names(owner)}
            for key, value in late.items():
                if key in owners:
                    keras_callbacks.put(*owners[key], value)

    def look(self) -> None:
        """A save is made: name what has changed and is in no checkpoint. Not at each save, because it takes time."""
        self._saves += 1
        if self._saves & (self._saves - 1):
            return
        for key, owner, value in self._unkept():
            if key in self._told or keras_held.is_whole(value):
                continue
            if digest(value) != self._unkept_before.get(key):
                self._told.add(key)
                _tell(owner, key.rpartition(".")[2], value)

    def _owners(self) -> Iterator[tuple[str, Any]]:
        yield from keras_held.model_owners(self._model)
        optimizer, path = getattr(self._model, "optimizer", None), "optimizer"
        while optimizer is not None:
            yield path, optimizer
            optimizer, path = getattr(optimizer, "inner_optimizer", None), f"{path} inner"

    def _plain(self) -> Iterator[tuple[str, Any, Any]]:
        for path, owner in self._owners():
            for name, value in _attributes(owner):
                if keras_callbacks.is_plain(value):
                    yield f"{path}.{name}", owner, value
            if isinstance(owner, keras.Layer):
                yield f"{path}.{TRAINABLE}", owner, bool(owner.trainable)

    def _unkept(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield what no checkpoint holds: of the script's own classes, because Keras's own keep nothing there."""
        for path, owner in self._owners():
            if not _is_keras(owner):
                for name, value in _attributes(owner):
                    if not keras_callbacks.is_plain(value):
                        yield f"{path}.{name}", owner, value
        for number, callback in enumerate(self._callbacks):
            if _is_keras(callback) or keras_callbacks.tells_its_state(callback):
                continue
            for name, value in keras_held.attributes(callback):
                open_here = isinstance(value, bool) and keras_callbacks.is_of_this_process(name, value)
                items = dict(value) if type(value) is defaultdict else value  # as it is kept
                if name not in keras_callbacks.NOT_STATE and (open_here or not keras_callbacks.is_plain(items)):
                    yield f"callback {number}.{name}", callback, value


def digest(value: Any) -> str:
    """Return a short text that is another one when the value has changed, as far as that can be seen at a small price."""
    if type(value) in _SCALARS:
        return f"{type(value).__name__} {value!r}"
    told: list[str] = []
    _look_at(value, told, 0)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _look_at(value: Any, told: list[str], depth: int) -> None:
    if len(told) > ITEMS_MAX or depth > DEPTH_MAX or isinstance(value, _NO_STATE) or _is_kept_elsewhere(value):
        return
    kind, inner = type(value).__name__, list[tuple[str, Any]]()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        told.append(f"{kind} {str(value)[:BYTES_MAX]}")
    elif isinstance(value, np.ndarray | np.generic):
        told.append(_array(np.asarray(value)))
    elif isinstance(value, dict):
        told.append(f"{kind} {len(value)}")
        inner = [(str(key)[:100], each) for key, each in list(value.items())[:ITEMS_MAX]]
    elif isinstance(value, set | frozenset):
        told += [f"{kind} {len(value)}", *sorted(str(each)[:100] for each in list(value)[:ITEMS_MAX])]
    elif isinstance(value, list | tuple | deque):
        told.append(f"{kind} {len(value)}")
        inner = [("", each) for each in list(value)[-ITEMS_MAX:]]
    elif keras_callbacks.is_plain(value):
        told.append(f"{kind} {id(value)}")  # a tensor
    elif not keras_held.is_of_a_library(value):
        told.append(kind)
        inner = list(keras_held.attributes(value))
    for name, each in inner:
        told.append(name)
        _look_at(each, told, depth + 1)


def _array(array: np.ndarray[Any, Any]) -> str:
    whole = array.nbytes <= BYTES_MAX
    content = array.tobytes() if whole else array.ravel()[:: array.size // SAMPLES + 1].tobytes()
    return f"{array.dtype} {array.shape} {hashlib.sha256(content).hexdigest()}"


def _is_kept_elsewhere(value: Any) -> bool:
    kinds = (keras.Variable, keras.Layer, keras.optimizers.Optimizer, keras.metrics.Metric, keras.random.SeedGenerator)
    return isinstance(value, (*kinds, keras.callbacks.Callback)) or keras_held.has_state(value)


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    return ((name, keras_held.untracked(value)) for name, value in keras_held.attributes(owner))


def _names(owner: Any) -> list[str]:
    return [
        *(name for name, _ in keras_held.attributes(owner)),
        *([TRAINABLE] if isinstance(owner, keras.Layer) else ()),
    ]


def _is_keras(owner: Any) -> bool:
    return type(owner).__module__.startswith("keras.")


def _tell(owner: Any, name: str, value: Any) -> None:
    is_flag = isinstance(value, bool)
    noun = "by its name a flag of this process" if is_flag else f"a {type(value).__name__}"
    hint = "hold it in a variable or in plain numbers"
    if isinstance(owner, keras.callbacks.Callback):
        hint = f"give {type(owner).__name__} state_dict() and load_state_dict()"
    words = f"{type(owner).__name__}.{name}, {noun}, changes and is not kept: after a resume it begins again; {hint}"
    life.here().say(Note("warning", words))
