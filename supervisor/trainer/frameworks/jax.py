"""JAX: arrays on any device of this process, also spread over several, and typed random keys. It has no global generators.

An array that was spread over devices comes back on one, because how it was spread is the script's to say again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax._src import xla_bridge
from jax._src.lax.lax import _convert_element_type

from supervisor.trainer.frameworks import arrays, jax_trees
from supervisor.trainer.frameworks.framework import Framework, Target
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.frameworks.framework import Scalar, StateAccess
    from supervisor.trainer.leaf import Leaf


class Jax(Framework):
    """The port's methods for this framework. Devices are not started for the sake of a question."""

    name = "jax"

    def describe(self) -> tuple[str, str]:
        # Asking would start all devices: a TPU then belongs to this process alone.
        device = jax.devices()[0] if xla_bridge.backends_are_initialized() else None
        words = "cpu" if device is None or device.platform == "cpu" else device.device_kind
        return f"jax {jax.__version__}", words

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        if not isinstance(value, jax.Array):
            return None
        _refuse_without_bytes(value, path)
        node: dict[str, Any] = {TAG: "jax.Array", "shape": list(value.shape), "device": _place(value)}
        if _is_key(value):
            raw = jax.random.key_data(value)
            node |= {TAG: "jax.Key", "impl": str(jax.random.key_impl(value)), "shape": list(raw.shape)}
            return node | {"dtype": raw.dtype.name}, arrays.leaf(self, raw.dtype, raw.shape, self.address(value))
        node |= {"dtype": value.dtype.name, "weak_type": _is_weak(value)}
        return node, arrays.leaf(self, value.dtype, value.shape, self.address(value))

    def token(self, value: Any) -> Hashable:
        if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer) or value.is_deleted():
            return None
        return value.shape, value.dtype, value.sharding, value.committed, _is_weak(value)

    def address(self, value: Any) -> Hashable:
        return id(value)  # an array never changes

    def read(self, value: Any, first: int, out: memoryview) -> None:
        raw = jax.random.key_data(value) if _is_key(value) else value
        item_bytes = raw.dtype.itemsize
        is_part = len(out) < raw.nbytes and first % item_bytes == len(out) % item_bytes == 0
        if is_part and next(iter(raw.devices())).platform != "cpu":
            # only these travel: large values are asked for in many parts
            raw = raw.reshape(-1)[first // item_bytes : (first + len(out)) // item_bytes]
            first = 0
        arrays.copy_bytes(np.asarray(raw), first, out)

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:
        assert live is None, "an array never changes"
        device = None if not node["device"] else _host() if on_host else _here(node["device"])

        def finish(array: np.ndarray[Any, Any]) -> Any:
            made = jax.device_put(array, device)
            if made.dtype != array.dtype:
                raise RefusedError(
                    "jax", f"it holds {array.dtype.name}", 'call jax.config.update("jax_enable_x64", True) as before'
                )
            if node[TAG] == "jax.Key":
                return jax.random.wrap_key_data(made, impl=node["impl"])
            return _convert_element_type(made, made.dtype, weak_type=True) if node["weak_type"] else made

        return arrays.target(arrays.dtype_named(node["dtype"]), node["shape"], size, finish)

    def access(self, value: Any) -> StateAccess | None:
        return jax_trees.access(value)

    def rng_state(self) -> Any:
        return None

    def set_rng_state(self, state: Any) -> str | None:
        raise NotImplementedError(state)

    def logged(self, value: Any) -> Any:
        if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer) and value.size == 1:
            return value  # it never changes; it is waited for when the log is written
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        return [each.item() for each in jax.device_get(list(kept))]

    def is_device_oom(self, error: BaseException) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _refuse_without_bytes(value: Any, path: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise RefusedError(
            path, "a traced value cannot be kept in a checkpoint", "keep what the jitted function returns"
        )
    if value.is_deleted():
        raise RefusedError(
            path, "an array that was donated to a jitted function is gone", "keep what the function returned instead"
        )
    if not value.is_fully_addressable:
        raise RefusedError(
            path, "parts of this array lie in other processes", "gather it (jax.experimental.multihost_utils) before"
        )
    if _is_key(value) and not isinstance(jax.random.key_impl(value), str):
        raise RefusedError(path, "a key of an unregistered kind cannot be kept", "keep jax.random.key_data(key)")


def _is_key(value: Any) -> bool:
    return bool(jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key))


def _is_weak(value: Any) -> bool:
    return bool(getattr(value, "weak_type", False))  # a key has none


def _place(value: Any) -> str:
    """Return the device that the script chose for it; "" where JAX may move it, or where it lies on several."""
    devices = list(value.devices())
    return f"{devices[0].platform}:{devices[0].id}" if value.committed and len(devices) == 1 else ""


def _here(device: str) -> Any:
    """Return the device if this machine has it, else the default."""
    return next((each for each in jax.local_devices() if f"{each.platform}:{each.id}" == device), None)


def _host() -> Any:
    return jax.local_devices(backend="cpu")[0]
