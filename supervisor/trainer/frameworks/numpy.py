"""NumPy: arrays and scalars of every dtype but object, the legacy global generator, and Generator objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from supervisor.trainer.frameworks.framework import Framework, HostTarget, Target
from supervisor.trainer.leaf import Leaf
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.frameworks.framework import Scalar, StateAccess

_STORED = {f"{kind}{size}": f"{kind.upper()}{8 * size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1": "BOOL"}


class NumPy(Framework):
    """The port's methods for this framework. Rows of other frameworks that sit on NumPy come before it."""

    name = "numpy"

    def describe(self) -> tuple[str, str]:
        return f"numpy {np.__version__}", "cpu"

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        if type(value) is np.ndarray:
            return self._keep_array(value, path)
        if isinstance(value, np.generic) and not isinstance(value, np.void | np.object_):
            raw = np.asarray(value)
            return {TAG: "numpy.scalar", "dtype": _dtype_name(raw.dtype, path), "bytes": raw.tobytes().hex()}, None
        if isinstance(value, np.dtype):
            return {TAG: "numpy.dtype", "dtype": _dtype_name(value, path)}, None
        return None

    def token(self, value: Any) -> Hashable:
        return (value.shape, value.strides, value.dtype) if type(value) is np.ndarray else None

    def address(self, value: Any) -> Hashable:
        return value.__array_interface__["data"][0] if value.nbytes else None

    def read(self, value: Any, first: int, out: memoryview) -> None:
        if first == 0 and len(out) == value.nbytes:
            np.copyto(np.frombuffer(out, dtype=value.dtype).reshape(value.shape), value)
        else:
            raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            np.copyto(np.frombuffer(out, dtype=np.uint8), raw[first : first + len(out)])

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:  # noqa: ARG002  # the port has it
        assert live is None, "no owner of arrays says that its state is its memory"
        packed = np.empty(node["shape"], dtype=np.dtype(node["dtype"]))
        if packed.nbytes != size:
            raise ValueError(f"{size} bytes for an array of {packed.nbytes}")
        view = packed.reshape(-1).view(np.uint8).data if size else memoryview(bytearray())
        return HostTarget(view, lambda: np.asarray(packed, order=node["order"]))

    def give(self, node: dict[str, Any]) -> Any:
        dtype = np.dtype(node["dtype"])
        return dtype if node[TAG] == "numpy.dtype" else np.frombuffer(bytes.fromhex(node["bytes"]), dtype=dtype)[0]

    def access(self, value: Any) -> StateAccess | None:
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            return (lambda: bits.state), (lambda state: setattr(bits, "state", state))
        if isinstance(value, np.random.RandomState):
            return (lambda: value.get_state(legacy=False)), value.set_state
        return None

    def rng_state(self) -> Any:
        return np.random.get_state(legacy=False)  # noqa: NPY002  # the global generator is what scripts use

    def set_rng_state(self, state: Any) -> str | None:
        np.random.set_state(state)  # noqa: NPY002  # the global generator is what scripts use
        return None

    def logged(self, value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
            return value.copy()
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        return [item.item() for item in kept]

    def _keep_array(self, value: np.ndarray[Any, Any], path: str) -> tuple[dict[str, Any], Leaf]:
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        dtype = _dtype_name(value.dtype, path)
        node = {TAG: "numpy.array", "dtype": dtype, "shape": list(value.shape), "order": order}
        stored = _STORED.get(dtype[1:]) if dtype[0] != ">" else None
        shape, item_bytes = (value.shape, value.itemsize) if stored else ((value.nbytes,), 1)
        identity = ("numpy", self.address(value), value.strides, value.shape, dtype) if value.nbytes else None
        return node, Leaf(stored or "U8", shape, item_bytes, value.nbytes, identity, self)


def _dtype_name(dtype: np.dtype[Any], path: str) -> str:
    if dtype.hasobject or dtype.kind == "V":
        raise RefusedError(
            path, f"numpy values of dtype {dtype} cannot be kept in a checkpoint", "keep one array per field"
        )
    return dtype.str
