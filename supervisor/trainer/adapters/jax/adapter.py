"""JAX: arrays on any device of this process, also sharded ones, and typed random keys. JAX has no global generators.

A sharded array comes back on one device, because the script decides again how to shard it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax._src import xla_bridge
from jax._src.lax.lax import _convert_element_type

from supervisor.trainer.adapters import arrays
from supervisor.trainer.adapters.jax import trees as jax_trees
from supervisor.trainer.adapters.port import FrameworkAdapter, RestoreTarget
from supervisor.trainer.errors import UnsupportedStateError
from supervisor.trainer.state.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.adapters.port import LeafSpec, Scalar, StateAccess


class Jax(FrameworkAdapter):
    """The adapter for JAX. It never starts devices itself."""

    name = "jax"

    def describe(self) -> tuple[str, str]:
        # Asking would start all devices: a TPU then belongs to this process alone.
        device = jax.devices()[0] if xla_bridge.backends_are_initialized() else None
        message = "cpu" if device is None or device.platform == "cpu" else device.device_kind
        return f"jax {jax.__version__}", message

    def encode(self, value: Any, path: str) -> tuple[dict[str, Any], LeafSpec | None] | None:
        if not isinstance(value, jax.Array):
            return None
        _refuse_without_bytes(value, path)
        node: dict[str, Any] = {TAG: "jax.Array", "shape": list(value.shape), "device": _device_name(value)}
        if _is_key(value):
            raw = jax.random.key_data(value)
            node |= {TAG: "jax.Key", "impl": str(jax.random.key_impl(value)), "shape": list(raw.shape)}
            return node | {"dtype": raw.dtype.name}, arrays.leaf(self, raw.dtype, raw.shape, self.address(value))
        node |= {"dtype": value.dtype.name, "weak_type": _is_weak(value)}
        return node, arrays.leaf(self, value.dtype, value.shape, self.address(value))

    def signature(self, value: Any) -> Hashable:
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
            # only this part is transferred: large values are read in many parts
            raw = raw.reshape(-1)[first // item_bytes : (first + len(out)) // item_bytes]
            first = 0
        arrays.copy_bytes(np.asarray(raw), first, out)

    def restore_target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> RestoreTarget:
        assert live is None, "an array never changes"
        device = None if not node["device"] else _host_device() if on_host else _local_device(node["device"])

        def finish(array: np.ndarray[Any, Any]) -> Any:
            made = jax.device_put(array, device)
            if made.dtype != array.dtype:
                raise UnsupportedStateError(
                    "jax", f"it holds {array.dtype.name}", 'call jax.config.update("jax_enable_x64", True) as before'
                )
            if node[TAG] == "jax.Key":
                return jax.random.wrap_key_data(made, impl=node["impl"])
            return _convert_element_type(made, made.dtype, weak_type=True) if node["weak_type"] else made

        return arrays.restore_target(arrays.dtype_named(node["dtype"]), node["shape"], size, finish)

    def state_access(self, value: Any) -> StateAccess | None:
        return jax_trees.state_access(value)

    def rng_state(self) -> Any:
        return None

    def set_rng_state(self, state: Any) -> str | None:
        raise NotImplementedError(state)

    def loggable(self, value: Any) -> Any:
        if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer) and value.size == 1:
            return value  # it never changes; it is waited for when the log is written
        return None

    def scalars(self, stored: Sequence[Any]) -> list[Scalar] | None:
        return [each.item() for each in jax.device_get(list(stored))]

    def is_device_oom(self, error: BaseException) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _refuse_without_bytes(value: Any, path: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise UnsupportedStateError(
            path, "a traced value cannot be kept in a checkpoint", "keep what the jitted function returns"
        )
    if value.is_deleted():
        raise UnsupportedStateError(
            path, "an array that was donated to a jitted function is gone", "keep what the function returned instead"
        )
    if not value.is_fully_addressable:
        raise UnsupportedStateError(
            path, "parts of this array lie in other processes", "gather it (jax.experimental.multihost_utils) before"
        )
    if _is_key(value) and not isinstance(jax.random.key_impl(value), str):
        raise UnsupportedStateError(
            path, "a key of an unregistered kind cannot be kept", "keep jax.random.key_data(key)"
        )


def _is_key(value: Any) -> bool:
    return bool(jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key))


def _is_weak(value: Any) -> bool:
    return bool(getattr(value, "weak_type", False))  # a key has none


def _device_name(value: Any) -> str:
    """Return the device that the script chose for the array; "" if JAX may move it, or if it is sharded."""
    devices = list(value.devices())
    return f"{devices[0].platform}:{devices[0].id}" if value.committed and len(devices) == 1 else ""


def _local_device(device: str) -> Any:
    """Return the device if this machine has it, else the default."""
    return next((each for each in jax.local_devices() if f"{each.platform}:{each.id}" == device), None)


def _host_device() -> Any:
    return jax.local_devices(backend="cpu")[0]
