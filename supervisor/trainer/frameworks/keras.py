"""Keras 3 on any backend: variables, whose values go through the backend's own row, and the seed of keras.random.

A variable comes back as a tensor of the backend that is used then, so that a run may change its backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import keras
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator

from supervisor.trainer import frameworks
from supervisor.trainer.frameworks import arrays, keras_state
from supervisor.trainer.frameworks.framework import Copies, Framework, Target
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.buffer import HostBuffer
    from supervisor.trainer.frameworks.framework import Scalar, Slot, StateAccess
    from supervisor.trainer.leaf import Leaf

GLOBAL_SEED_GENERATOR = "global_seed_generator"  # Keras itself has a name for it only from 3.13 on


class Keras(Framework):
    """The port's methods for this framework."""

    name = "keras"

    def __init__(self) -> None:
        self._backend = frameworks.named(keras.config.backend())
        self._models: WeakSet[Any] = WeakSet()

    def describe(self) -> tuple[str, str]:
        backend, device = self._backend.describe()
        return f"keras {keras.__version__} on {backend}", device

    def describe_device(self) -> dict[str, str]:
        return self._backend.describe_device()

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:  # noqa: ARG002  # the port has it
        if not isinstance(value, keras.Variable):
            return None
        dtype, shape = value._dtype, tuple(value.shape)  # noqa: SLF001  # dtype is another in an autocast scope
        node = {TAG: "keras.Variable", "dtype": dtype, "shape": list(shape)}
        return node, arrays.leaf(self, arrays.dtype_named(dtype), shape, self.address(value))

    def token(self, value: Any) -> Hashable:
        return (value._dtype, self._backend.token(_held(value))) if isinstance(value, keras.Variable) else None  # noqa: SLF001

    def address(self, value: Any) -> Hashable:
        return self._backend.address(_held(value))

    def read(self, value: Any, first: int, out: memoryview) -> None:
        self._backend.read(_held(value), first, out)

    def copies(self, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:
        inner = self._backend.copies([slot._replace(value=_held(slot.value)) for slot in slots], buffer)
        return Copies(
            [_of_held(copy) for copy in inner.device],
            [_of_held(copy) for copy in inner.host],
        )

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:  # noqa: ARG002  # assign() places it
        if self._backend.name == "jax":  # which has no 64 bits unless it is told to, and takes arrays for values
            return arrays.target(arrays.dtype_named(node["dtype"]), node["shape"], size, lambda array: array)
        plain = node | {
            "device": "cpu:0",
            "requires_grad": False,
            "weak_type": False,
            TAG: f"{self._backend.name}.Tensor",
        }
        return self._backend.target(plain, size, None if live is None else _held(live), on_host=True)

    def access(self, value: Any) -> StateAccess | None:
        if isinstance(value, keras_state.InFit):
            return value.get, value.set
        if isinstance(value, keras.Layer):
            self._models.add(value)
        return keras_state.access(value, self._models)

    def places_itself(self, owner: Any) -> bool:
        return isinstance(owner, keras_state.InFit) or keras_state.access(owner, ()) is not None

    def rng_state(self) -> Any:
        generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
        return None if generator is None else [int(each) for each in keras.ops.convert_to_numpy(generator.state)]

    def set_rng_state(self, state: Any) -> str | None:
        # One generator for all: where the script has none yet, this makes it.
        keras_state.assign(global_seed_generator().state, state)
        return None

    def logged(self, value: Any) -> Any:
        return self._backend.logged(_held(value)) if isinstance(value, keras.Variable) else None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        return self._backend.scalars(kept)


class _Held:
    """The backend's values of a list of variables, got when they are asked for: the backend may replace them at any step."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = variables

    def __getitem__(self, number: int) -> Any:
        return _held(self._variables[number])


def _held(variable: Any) -> Any:
    """Return what the backend holds for a variable, never cast."""
    return variable.value if variable._value is None else variable._value  # noqa: SLF001  # value is another in an autocast scope


def _of_held(copy: Any) -> Any:
    return lambda values: copy(_Held(values))
