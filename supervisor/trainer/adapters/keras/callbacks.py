"""The state of Keras callbacks: their plain attributes, best weights as arrays, and variables in place."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from supervisor.trainer.adapters.keras import attributes as keras_attributes
from supervisor.trainer.state import script_classes, typed_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.trainer.adapters.port import StateAccess

# Keras sets these for every callback, or they are paths of this machine. The sign of min_delta
# is flipped in each process's first epoch.
NOT_STATE = {
    "model", "_model", "params", "validation_data", "filepath", "filename", "log_dir", "backup_dir", "min_delta",
}  # fmt: skip
# Flags with these names describe an open resource of this process, and numbers a reading of its clock.
_OPEN_IN_PROCESS = re.compile(
    r"^_?((is|was|has|currently)_)?(tracing|recording|running|open|opened|connected|locked|profiling|writing)$"
    r"|^_is_|profiler|profiling|writer|timer"
)
_CLOCK_OF_PROCESS = re.compile(
    r"timer|^_?(t0|tic)$|(^|_)(start|begin|began|started|last)_(time|at)$|(^|_)time_(start|begin)$"
)
_KEYS = {str, int, bool, float, tuple, type(None)}
_SCALARS = {type(None), bool, int, float, str}
_SIMPLE = (bool, int, float, str, bytes, type(None), np.ndarray, np.generic)


def state_access(callback: Any) -> StateAccess:
    """Return (get, set) for a callback's memory. Functions, files and models in it are not touched."""
    if has_own_state(callback):
        return callback.state_dict, callback.load_state_dict
    held = _CallbackState(callback)
    return held.get, held.set


def has_own_state(callback: Any) -> bool:
    """Return whether it has the two methods to save itself."""
    return callable(getattr(callback, "state_dict", None)) and callable(getattr(callback, "load_state_dict", None))


class _CallbackState:
    """``_unset``: attributes that the checkpoint lacks and this process has not made yet; they are None until then."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._unset: set[str] = set()
        model = getattr(callback, "model", None)
        self._attributes = keras_attributes.AttributeState(
            lambda: [("", callback)], lambda: () if model is None else keras_attributes.model_known(model), model
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
        attribute_state = self._attributes.get()
        return {**plain, keras_attributes.ATTRIBUTES_KEY: attribute_state} if attribute_state else plain

    def set(self, state: Mapping[str, Any]) -> None:
        self._unset = {name for name, value in vars(self._callback).items() if value is None and name not in state}
        for name, value in state.items():
            if name != keras_attributes.ATTRIBUTES_KEY and not is_of_this_process(
                name, value
            ):  # earlier versions saved these too
                put(self._callback, name, value)
        self._attributes.set(state.get(keras_attributes.ATTRIBUTES_KEY, {}))


def is_of_this_process(name: str, value: Any) -> bool:
    """Return whether an attribute describes an open resource or clock of this process, and is wrong in another one."""
    if isinstance(value, bool):
        return _OPEN_IN_PROCESS.search(name) is not None
    if isinstance(value, int | float):
        return _CLOCK_OF_PROCESS.search(name) is not None
    return "writer" in name and isinstance(value, dict | list) and not value


def put(owner: Any, name: str, value: Any) -> None:
    """Set an attribute. A container with settings of its own (a factory, a maximum length) is filled in place."""
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
    """Return whether a value consists of plain values throughout.

    Arrays count if their bytes say all, tensors if they have bytes.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    if kind in {list, tuple, set, frozenset, deque} or script_classes.is_namedtuple(value):
        return all(map(is_plain, value))
    if kind in {dict, Counter, defaultdict}:
        return all(type(key) in _KEYS and is_plain(each) for key, each in value.items()) and _has_known_factory(value)
    return isinstance(value, _SIMPLE) or _is_tensor(value)


def _has_known_factory(value: Any) -> bool:
    """Return whether a defaultdict's factory has a name that a checkpoint can store."""
    factory = getattr(value, "default_factory", None)
    return factory is None or factory in typed_json.FACTORIES.values()


def _is_tensor(value: Any) -> bool:
    """Return whether it is a tensor with a value of its own, not a graph's and not a variable."""
    torch, tf, jax = (sys.modules.get(name) for name in ("torch", "tensorflow", "jax"))
    if torch is not None and isinstance(value, torch.Tensor):
        return not value.requires_grad and value.layout == torch.strided and value.device.type != "meta"
    if tf is not None and isinstance(value, tf.Tensor):
        return hasattr(value, "numpy") and (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool)
    return jax is not None and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
