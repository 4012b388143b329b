"""What frameworks have in common whose values can be looked at as NumPy arrays: leaves, bytes, and memory to read into."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from supervisor.trainer.frameworks.framework import HostTarget, Target
from supervisor.trainer.leaf import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from supervisor.trainer.frameworks.framework import Framework

STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip  # safetensors' word for a dtype; the bytes of others are kept as they are


def leaf(framework: Framework, dtype: np.dtype[Any], shape: Sequence[int], address: Hashable) -> Leaf:
    """Return the leaf of a value with this dtype and shape."""
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    identity = (framework.name, address, dtype.name, tuple(shape)) if size else None
    if dtype.name in STORED:
        return Leaf(STORED[dtype.name], tuple(shape), dtype.itemsize, size, identity, framework)
    return Leaf("U8", (size,), 1, size, identity, framework)


def copy_bytes(array: np.ndarray[Any, Any], first: int, out: memoryview) -> None:
    """Copy row-major bytes of an array from ``first`` on into ``out`` until it is full."""
    if out:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        np.copyto(np.frombuffer(out, dtype=np.uint8), raw[first : first + len(out)])


def target(dtype: np.dtype[Any], shape: Sequence[int], size: int, finish: Callable[[Any], Any]) -> Target:
    """Return a target of ``size`` bytes; ``finish`` makes the value of the array. ValueError if it is of another size."""
    packed = np.empty(tuple(shape), dtype)
    if packed.nbytes != size:
        raise ValueError(f"{size} bytes for an array of {packed.nbytes}")
    view = packed.reshape(-1).view(np.uint8).data if size else memoryview(bytearray())
    return HostTarget(view, lambda: finish(packed))


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the dtype of that name, also of those that NumPy itself does not have; ValueError for none."""
    try:
        return np.dtype(name)
    except TypeError:
        # It comes with every framework that has such values.
        found = getattr(import_module("ml_dtypes"), name, None)
        if found is None:
            raise ValueError(f"{name} is no dtype known here") from None
        dtype: np.dtype[Any] = np.dtype(found)
        return dtype
