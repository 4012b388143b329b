"""The state of Keras callbacks, own and foreign: their plain attributes, best weights as arrays, and variables in place."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from supervisor.trainer import own_classes, typed_json
from supervisor.trainer.frameworks import keras_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.trainer.frameworks.framework import StateAccess

# Keras gives these anew to every callback, or they say where this machine has its files; and the sign of min_delta is
# turned anew with each process's first epoch.
NOT_STATE = {
    "model", "_model", "params", "validation_data", "filepath", "filename", "log_dir", "backup_dir", "min_delta",
}  # fmt: skip
# By these names a flag says that something is open in this process, and a number is a reading of its clock.
_OPEN_HERE = re.compile(
    r"^_?((is|was|has|currently)_)?(tracing|recording|running|open|opened|connected|locked|profiling|writing)$"
    r"|^_is_|profiler|profiling|writer|timer"
)
_CLOCK_HERE = re.compile(
    r"timer|^_?(t0|tic)$|(^|_)(start|begin|began|started|last)_(time|at)$|(^|_)time_(start|begin)$"
)
_KEYS = {str, int, bool, float, tuple, type(None)}
_SCALARS = {type(None), bool, int, float, str}
_SIMPLE = (bool, int, float, str, bytes, type(None), np.ndarray, np.generic)


def access(callback: Any) -> StateAccess:
    """Return (get, set) of what a callback remembers. What it computes with (functions, files, models) is not touched."""
    if tells_its_state(callback):
        return callback.state_dict, callback.load_state_dict
    held = _OfCallback(callback)
    return held.get, held.set


def tells_its_state(callback: Any) -> bool:
    """Say whether it has the two methods with which it keeps itself."""
    return callable(getattr(callback, "state_dict", None)) and callable(getattr(callback, "load_state_dict", None))


class _OfCallback:
    """``_unset``: what the checkpoint did not hold and this process has not made yet: a function later, None till then."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._unset: set[str] = set()
        model = getattr(callback, "model", None)
        self._held = keras_held.Held(
            lambda: [("", callback)], lambda: () if model is None else keras_held.model_known(model), model
        )

    def get(self) -> dict[str, Any]:
        held = {
            name: value
            for name, value in vars(self._callback).items()
            if name not in NOT_STATE and not is_of_this_process(name, value)
        }
        self._unset = {name for name in self._unset if held.get(name) is None}
        items = {name: dict(each) if type(each) is defaultdict else each for name, each in held.items()}
        plain = {name: each for name, each in items.items() if name not in self._unset and is_plain(each)}
        hanging = self._held.get()
        return {**plain, keras_held.HELD: hanging} if hanging else plain

    def set(self, state: Mapping[str, Any]) -> None:
        self._unset = {name for name, value in vars(self._callback).items() if value is None and name not in state}
        for name, value in state.items():
            if name != keras_held.HELD and not is_of_this_process(name, value):  # versions before kept these too
                put(self._callback, name, value)
        self._held.set(state.get(keras_held.HELD, {}))


def is_of_this_process(name: str, value: Any) -> bool:
    """Say whether an attribute tells of something open in the process that set it, or of its clock: false in another one."""
    if isinstance(value, bool):
        return _OPEN_HERE.search(name) is not None
    if isinstance(value, int | float):
        return _CLOCK_HERE.search(name) is not None
    return "writer" in name and isinstance(value, dict | list) and not value


def put(owner: Any, name: str, value: Any) -> None:
    """Set an attribute; a container with more to it than its items (a factory, a longest length) is filled in place."""
    live: Any = getattr(owner, name, None)
    same = type(live) is type(value)
    if (same and isinstance(live, set | Counter)) or (isinstance(live, defaultdict) and isinstance(value, dict)):
        live.clear()
        live.update(value)
    elif same and isinstance(live, deque):
        live.clear()
        live.extend(value)
    else:
        setattr(owner, name, value)


def is_plain(value: Any) -> bool:
    """Say whether it is made of plain values throughout; an array counts if its bytes say all, a tensor if it has some."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    if kind in {list, tuple, set, frozenset, deque} or own_classes.is_namedtuple(value):
        return all(map(is_plain, value))
    if kind in {dict, Counter, defaultdict}:
        return all(type(key) in _KEYS and is_plain(each) for key, each in value.items()) and _has_known_factory(value)
    return isinstance(value, _SIMPLE) or _is_tensor(value)


def _has_known_factory(value: Any) -> bool:
    """Say whether a defaultdict makes its missing items in a way that stands in a checkpoint by its name."""
    factory = getattr(value, "default_factory", None)
    return factory is None or factory in typed_json.FACTORIES.values()


def _is_tensor(value: Any) -> bool:
    """Say whether it is a tensor with a value of its own, not one of a graph and not a variable."""
    torch, tf, jax = (sys.modules.get(name) for name in ("torch", "tensorflow", "jax"))
    if torch is not None and isinstance(value, torch.Tensor):
        return not value.requires_grad and value.layout == torch.strided and value.device.type != "meta"
    if tf is not None and isinstance(value, tf.Tensor):
        return hasattr(value, "numpy") and (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool)
    return jax is not None and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
