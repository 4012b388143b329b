"""Keras 3 on any backend: variables, whose values go through the backend's adapter, and the seed of keras.random.

A variable comes back as a tensor of the current backend, so that a run may change its backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import keras
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator

from supervisor.trainer import adapters
from supervisor.trainer.adapters import arrays
from supervisor.trainer.adapters.keras import state as keras_state
from supervisor.trainer.adapters.port import Copies, FrameworkAdapter, RestoreTarget
from supervisor.trainer.state.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.adapters.port import LeafSpec, Scalar, Slot, StateAccess
    from supervisor.trainer.save.buffer import HostBuffer

GLOBAL_SEED_GENERATOR = "global_seed_generator"  # Keras itself has a name for it only from 3.13 on


class Keras(FrameworkAdapter):
    """The adapter for Keras."""

    name = "keras"

    def __init__(self) -> None:
        self._backend = adapters.named(keras.config.backend())
        self._models: WeakSet[Any] = WeakSet()

    def describe(self) -> tuple[str, str]:
        backend, device = self._backend.describe()
        return f"keras {keras.__version__} on {backend}", device

    def describe_device(self) -> dict[str, str]:
        return self._backend.describe_device()

    def encode(self, value: Any, path: str) -> tuple[dict[str, Any], LeafSpec | None] | None:  # noqa: ARG002  # the port has it
        if not isinstance(value, keras.Variable):
            return None
        dtype, shape = value._dtype, tuple(value.shape)  # noqa: SLF001  # dtype is another in an autocast scope
        node = {TAG: "keras.Variable", "dtype": dtype, "shape": list(shape)}
        return node, arrays.leaf(self, arrays.dtype_named(dtype), shape, self.address(value))

    def signature(self, value: Any) -> Hashable:
        if not isinstance(value, keras.Variable):
            return None
        return value._dtype, self._backend.signature(_backend_value(value))  # noqa: SLF001  # as above

    def address(self, value: Any) -> Hashable:
        return self._backend.address(_backend_value(value))

    def read(self, value: Any, first: int, out: memoryview) -> None:
        self._backend.read(_backend_value(value), first, out)

    def plan_copies(self, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:
        inner = self._backend.plan_copies([slot._replace(value=_backend_value(slot.value)) for slot in slots], buffer)
        return Copies(
            [_on_backend_values(copy) for copy in inner.device],
            [_on_backend_values(copy) for copy in inner.host],
        )

    def restore_target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> RestoreTarget:  # noqa: ARG002  # assign() places it
        if self._backend.name == "jax":  # it has no 64 bits by default, and takes arrays as values
            return arrays.restore_target(arrays.dtype_named(node["dtype"]), node["shape"], size, lambda array: array)
        plain = node | {
            "device": "cpu:0",
            "requires_grad": False,
            "weak_type": False,
            TAG: f"{self._backend.name}.Tensor",
        }
        return self._backend.restore_target(plain, size, None if live is None else _backend_value(live), on_host=True)

    def state_access(self, value: Any) -> StateAccess | None:
        if isinstance(value, keras_state.ReplaceableState):
            return value.get, value.set
        if isinstance(value, keras.Layer):
            self._models.add(value)
        return keras_state.state_access(value, self._models)

    def loads_itself(self, owner: Any) -> bool:
        return isinstance(owner, keras_state.ReplaceableState) or keras_state.state_access(owner, ()) is not None

    def rng_state(self) -> Any:
        generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
        return None if generator is None else [int(each) for each in keras.ops.convert_to_numpy(generator.state)]

    def set_rng_state(self, state: Any) -> str | None:
        # One generator for all: where the script has none yet, this makes it.
        keras_state.assign(global_seed_generator().state, state)
        return None

    def loggable(self, value: Any) -> Any:
        return self._backend.loggable(_backend_value(value)) if isinstance(value, keras.Variable) else None

    def scalars(self, stored: Sequence[Any]) -> list[Scalar] | None:
        return self._backend.scalars(stored)


class _BackendValues:
    """The backend's values of a list of variables, read on access, because the backend may replace them at any step."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = variables

    def __getitem__(self, number: int) -> Any:
        return _backend_value(self._variables[number])


def _backend_value(variable: Any) -> Any:
    """Return the backend's value of a variable, never cast."""
    return variable.value if variable._value is None else variable._value  # noqa: SLF001  # value is another in an autocast scope


def _on_backend_values(copy: Any) -> Any:
    return lambda values: copy(_BackendValues(values))
