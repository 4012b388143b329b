"""Plain attributes of the model, its layers, loss, metrics and optimizer that change within a fit, and unsaved changes.

A number that a callback sets on a layer counts from the next trace on. So with a traced train function, it is restored after
the first step. There the trace has taken the script's initial number, as it had in the first process.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.adapters.keras import attributes as keras_attributes
from supervisor.trainer.adapters.keras import callbacks as keras_callbacks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ITEMS_MAX = 2000  # of one attribute that are looked at
BYTES_MAX = 1 << 20
SAMPLES = 4096
DEPTH_MAX = 4
TRAINABLE = "trainable"
_SCALARS = {type(None), bool, int, float, str}
_STATELESS = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)


class Attributes:
    """``eager``: the train function reads the attributes at each step. Made when all callbacks have begun."""

    def __init__(self, model: Any, callbacks: Sequence[Any], *, eager: bool) -> None:
        self._model, self._callbacks, self._eager = model, callbacks, eager
        self._before = {key: digest(value) for key, _, value in self._plain()}
        self._unkept_before = {key: digest(value) for key, _, value in self._unkept()}
        self._pending: dict[str, Any] = {}
        self._reported: set[str] = set()
        self._saves = 0

    def get(self) -> dict[str, Any]:
        """Return the plain attributes that differ from the fit's beginning, by path."""
        changed = {key: value for key, _, value in self._plain() if digest(value) != self._before.get(key)}
        return {**changed, **self._pending}

    def set(self, stored: Mapping[str, Any]) -> None:
        """Restore them: at once if the next step reads them, else after it."""
        self._pending = dict(stored)
        if self._eager:
            self.on_traced()

    def on_traced(self) -> None:
        """Restore the attributes, because the train function is traced now."""
        if self._pending:
            pending, self._pending = self._pending, {}
            owners = {f"{path}.{name}": (owner, name) for path, owner in self._owners() for name in _names(owner)}
            for key, value in pending.items():
                if key in owners:
                    keras_callbacks.put(*owners[key], value)

    def report_unkept(self) -> None:
        """Report changed attributes that no checkpoint holds. Not at each save, because it takes time."""
        self._saves += 1
        if self._saves & (self._saves - 1):
            return
        for key, owner, value in self._unkept():
            if key in self._reported or keras_attributes.is_whole(value):
                continue
            if digest(value) != self._unkept_before.get(key):
                self._reported.add(key)
                _warn(owner, key.rpartition(".")[2], value)

    def _owners(self) -> Iterator[tuple[str, Any]]:
        yield from keras_attributes.model_owners(self._model)
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
        """Yield attributes that no checkpoint holds, of the script's own classes only.

        Keras's own classes keep nothing there.
        """
        for path, owner in self._owners():
            if not _is_keras(owner):
                for name, value in _attributes(owner):
                    if not keras_callbacks.is_plain(value):
                        yield f"{path}.{name}", owner, value
        for number, callback in enumerate(self._callbacks):
            if _is_keras(callback) or keras_callbacks.has_own_state(callback):
                continue
            for name, value in keras_attributes.attributes(callback):
                open_here = isinstance(value, bool) and keras_callbacks.is_of_this_process(name, value)
                items = dict(value) if type(value) is defaultdict else value  # as it is saved
                if name not in keras_callbacks.NOT_STATE and (open_here or not keras_callbacks.is_plain(items)):
                    yield f"callback {number}.{name}", callback, value


def digest(value: Any) -> str:
    """Return a short text that differs if the value has changed, as far as a cheap check shows that."""
    if type(value) in _SCALARS:
        return f"{type(value).__name__} {value!r}"
    lines: list[str] = []
    _add_lines(value, lines, 0)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _add_lines(value: Any, lines: list[str], depth: int) -> None:
    if len(lines) > ITEMS_MAX or depth > DEPTH_MAX or isinstance(value, _STATELESS) or _is_kept_elsewhere(value):
        return
    kind, inner = type(value).__name__, list[tuple[str, Any]]()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        lines.append(f"{kind} {str(value)[:BYTES_MAX]}")
    elif isinstance(value, np.ndarray | np.generic):
        lines.append(_array(np.asarray(value)))
    elif isinstance(value, dict):
        lines.append(f"{kind} {len(value)}")
        inner = [(str(key)[:100], each) for key, each in list(value.items())[:ITEMS_MAX]]
    elif isinstance(value, set | frozenset):
        lines += [f"{kind} {len(value)}", *sorted(str(each)[:100] for each in list(value)[:ITEMS_MAX])]
    elif isinstance(value, list | tuple | deque):
        lines.append(f"{kind} {len(value)}")
        inner = [("", each) for each in list(value)[-ITEMS_MAX:]]
    elif keras_callbacks.is_plain(value):
        lines.append(f"{kind} {id(value)}")  # a tensor
    elif not keras_attributes.is_of_a_library(value):
        lines.append(kind)
        inner = list(keras_attributes.attributes(value))
    for name, each in inner:
        lines.append(name)
        _add_lines(each, lines, depth + 1)


def _array(array: np.ndarray[Any, Any]) -> str:
    whole = array.nbytes <= BYTES_MAX
    content = array.tobytes() if whole else array.ravel()[:: array.size // SAMPLES + 1].tobytes()
    return f"{array.dtype} {array.shape} {hashlib.sha256(content).hexdigest()}"


def _is_kept_elsewhere(value: Any) -> bool:
    kinds = (keras.Variable, keras.Layer, keras.optimizers.Optimizer, keras.metrics.Metric, keras.random.SeedGenerator)
    return isinstance(value, (*kinds, keras.callbacks.Callback)) or keras_attributes.has_state(value)


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    return ((name, keras_attributes.unwrapped(value)) for name, value in keras_attributes.attributes(owner))


def _names(owner: Any) -> list[str]:
    return [
        *(name for name, _ in keras_attributes.attributes(owner)),
        *([TRAINABLE] if isinstance(owner, keras.Layer) else ()),
    ]


def _is_keras(owner: Any) -> bool:
    return type(owner).__module__.startswith("keras.")


def _warn(owner: Any, name: str, value: Any) -> None:
    is_flag = isinstance(value, bool)
    noun = "by its name a flag of this process" if is_flag else f"a {type(value).__name__}"
    hint = "hold it in a variable or in plain numbers"
    if isinstance(owner, keras.callbacks.Callback):
        hint = f"give {type(owner).__name__} state_dict() and load_state_dict()"
    message = f"{type(owner).__name__}.{name}, {noun}, changes and is not kept: after a resume it begins again; {hint}"
    trainer_context.current().send(TrainerNote("warning", message))
