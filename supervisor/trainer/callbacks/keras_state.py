"""What else a fit has than its model and optimizer: metrics under way, callbacks, and what is put back within an epoch."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from supervisor.trainer.frameworks import keras_callbacks
from supervisor.trainer.frameworks.keras_state import Named, assign

if TYPE_CHECKING:
    from collections.abc import Mapping


class Metrics:
    """Attached. The compiled metrics and the mean of the loss, as far as the epoch has come."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._named = Named(lambda: model.metrics_variables)

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics' variables by name."""
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()
        return self._named.get()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Assign them."""
        self._named.set(state)


class Callbacks:
    """Attached. The other callbacks of the fit, by their place in the list; the progress bar makes itself anew."""

    def __init__(self, told: Any, own: Any) -> None:
        self._told = told
        kept = [each for each in told.callbacks if each is not own and not _is_shown_only(each)]
        self._access = {
            f"{number} {type(each).__name__}": keras_callbacks.access(each)
            for number, each in enumerate(kept[:-1])  # the last is ours
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what each remembers."""
        if self._told._futures:
            self._told._flush_futures()
        return {name: get() for name, (get, _) in self._access.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have each remember it; ValueError if these are others."""
        if state.keys() != self._access.keys():
            raise ValueError(f"it is of the callbacks {', '.join(state)}, and these are {', '.join(self._access)}")
        for name, (_, put) in self._access.items():
            put(state[name])


class Late:
    """What the beginning of an epoch changes, and must not change again for the rest of one.

    These are metrics, which are reset, what callbacks note of themselves, and single numbers, as a learning rate.
    """

    def __init__(self, model: Any, metrics: Metrics, callbacks: Callbacks) -> None:
        self._callbacks, self._remembered = callbacks, _copied(callbacks.state_dict())
        single = [
            each
            for each in (*model.variables, *(model.optimizer.variables if model.optimizer is not None else ()))
            if len(each.shape) == 0
        ]
        self._values = [(each, _host(each)) for each in (*metrics.state_dict().values(), *single)]

    def put_back(self) -> None:
        """The epoch has begun: set it to what was kept within it."""
        for variable, value in self._values:
            assign(variable, value)
        self._callbacks.load_state_dict(self._remembered)


def _is_shown_only(callback: Any) -> bool:
    return isinstance(callback, keras.callbacks.ProgbarLogger)


def _host(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable._value if variable._value is not None else variable.value).copy()


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value
