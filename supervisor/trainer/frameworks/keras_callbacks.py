"""The state of Keras callbacks, own and foreign: their plain attributes; best weights as arrays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

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
_SIMPLE = (bool, int, float, str, bytes, type(None), np.ndarray, np.generic)


def access(callback: Any) -> StateAccess:
    """Return (get, set) of what a callback remembers. What it computes with (functions, files, models) is not touched."""
    own = callable(getattr(callback, "state_dict", None)) and callable(getattr(callback, "load_state_dict", None))
    if own:
        return callback.state_dict, callback.load_state_dict
    held = _OfCallback(callback)
    return held.get, held.set


class _OfCallback:
    """``_unset``: what the checkpoint did not hold and this process has not made yet: a function later, None till then."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._unset: set[str] = set()

    def get(self) -> dict[str, Any]:
        held = {
            name: value
            for name, value in vars(self._callback).items()
            if name not in NOT_STATE and not is_of_this_process(name, value)
        }
        self._unset = {name for name in self._unset if held.get(name) is None}
        return {name: value for name, value in held.items() if name not in self._unset and _is_simple(value)}

    def set(self, state: Mapping[str, Any]) -> None:
        self._unset = {name for name, value in vars(self._callback).items() if value is None and name not in state}
        for name, value in state.items():
            if not is_of_this_process(name, value):  # versions before kept these too
                setattr(self._callback, name, value)


def is_of_this_process(name: str, value: Any) -> bool:
    """Say whether an attribute tells of something open in the process that set it, or of its clock: false in another one."""
    if isinstance(value, bool):
        return _OPEN_HERE.search(name) is not None
    if isinstance(value, int | float):
        return _CLOCK_HERE.search(name) is not None
    return "writer" in name and isinstance(value, dict | list) and not value


def _is_simple(value: Any) -> bool:
    """Say whether it is made of plain values throughout; an array counts if its bytes say all."""
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    if type(value) in {list, tuple}:
        return all(map(_is_simple, value))
    if type(value) is dict:
        return all(type(key) in {str, int} and _is_simple(each) for key, each in value.items())
    return isinstance(value, _SIMPLE)
