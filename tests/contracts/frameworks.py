"""One row for each framework of the contract: values to keep, objects with a state, chance, and how all that is looked at.

A new framework passes by a class here and a row in ROWS: ``tests/contracts/framework_laws.py`` asks nothing else of it.
"""

from __future__ import annotations

import array
import importlib.util
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES: dict[str, tuple[int, ...]] = {"scalar": (), "empty": (0,), "flat": (3, 0, 2), "cube": (2, 3, 4)}
BIG = (300_007,)
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
ML_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


class Row(Protocol):
    """What the laws ask of a framework. ``form`` and ``bits`` say all of a value; a variable may come back as a tensor.

    ``row``: its name in ``frameworks.ROWS``. ``needs``: the modules that a script imports for it.
    ``environ``: set before that.
    """

    row: str
    needs: str
    environ: dict[str, str]

    def values(self) -> dict[str, Any]:
        """Return values of every dtype and shape, the same in every process."""

    def form(self, value: Any) -> list[Any]:
        """Return all of a value but its bytes, as JSON has it."""

    def bits(self, value: Any) -> bytes: ...

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        """Return a value and what changes it in place; None where nothing can be changed in place."""

    def refused(self) -> dict[str, Any]:
        """Return values that have no exact form."""

    def objects(self, seed: int) -> dict[str, Any]:
        """Return objects with a state, which differ with the seed."""

    def use(self, objects: dict[str, Any]) -> str:
        """Use them, which changes them, and return what that gave, to the last bit."""

    def draw(self) -> str:
        """Return what the global generators give next, to the last bit."""


class Plain:
    row, needs = "plain", "json"
    environ: ClassVar[dict[str, str]] = {}

    def values(self) -> dict[str, Any]:
        chance = random.Random(5)
        made: dict[str, Any] = {f"array-{code}": array.array(code, [1, 2, 3]) for code in "bBhHiIlLqQfd"}
        made |= {f"bytes-{size}": chance.randbytes(size) for size in (0, 3, 2000, 1_000_003)}
        made["nan"] = array.array("d", np.array([0x7FF8000000012345, 1 << 63], np.uint64).view(np.float64))
        return made | {"bytearray": bytearray(chance.randbytes(99)), "view": memoryview(chance.randbytes(12)).cast("i")}

    def form(self, value: Any) -> list[Any]:
        return [type(value).__name__, memoryview(value).format, list(memoryview(value).shape)]

    def bits(self, value: Any) -> bytes:
        return bytes(value) if not isinstance(value, array.array) else value.tobytes()

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        value = bytearray(b"before" * 500)
        return value, lambda: value.__setitem__(slice(0, 5), b"after")

    def refused(self) -> dict[str, Any]:
        return {"function": len, "factory": defaultdict(lambda: 0), "strided": memoryview(b"abcdef")[::2]}

    def objects(self, seed: int) -> dict[str, Any]:
        return {"chance": random.Random(seed)}

    def use(self, objects: dict[str, Any]) -> str:
        return str([objects["chance"].random() for _ in range(3)])

    def draw(self) -> str:
        return str([random.random(), random.gauss(0, 1)])


class Arrays:
    """What rows have in common whose values can be made of NumPy arrays: every dtype is filled with chance bits."""

    row: str
    environ: ClassVar[dict[str, str]] = {}
    dtypes: tuple[str, ...]

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        raise NotImplementedError

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        found = {
            f"{dtype}-{name}": self.made(chance_bits(dtype, shape))
            for dtype in self.dtypes
            for name, shape in SHAPES.items()
        }
        return found | {"float32-big": self.made(chance_bits("float32", BIG))}

    def form(self, value: Any) -> list[Any]:
        raw = self.raw(value)
        return [raw.dtype.name, list(raw.shape)]

    def bits(self, value: Any) -> bytes:
        return self.raw(value).tobytes()


class NumPy(Arrays):
    row, needs = "numpy", "numpy"
    dtypes = (*INTS, *FLOATS, "bool", "complex64", "complex128")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        return of

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        return np.asarray(value)

    def values(self) -> dict[str, Any]:
        other = {"fortran": np.asfortranarray(chance_bits("float32", (3, 5))), "swapped": np.arange(3, dtype=">i4")}
        other |= {
            "sliced": chance_bits("int16", (40,))[::3],
            "words": np.array(["a", "字"]),
            "day": np.datetime64(3, "D"),
        }
        return super().values() | other

    def form(self, value: Any) -> list[Any]:
        raw = np.asarray(value)
        return [type(value).__name__, raw.dtype.str, list(raw.shape), raw.ndim > 1 and bool(raw.flags.f_contiguous)]

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        value = np.arange(1000.0)
        return value, lambda: value.fill(-1)

    def refused(self) -> dict[str, Any]:
        return {"objects": np.array([object()]), "fields": np.zeros(2, dtype=[("x", "f4")])}

    def objects(self, seed: int) -> dict[str, Any]:
        return {"generator": np.random.default_rng(seed), "legacy": np.random.RandomState(seed)}

    def use(self, objects: dict[str, Any]) -> str:
        return (objects["generator"].bytes(9) + objects["legacy"].bytes(9)).hex()

    def draw(self) -> str:
        return np.random.bytes(9).hex() + np.random.standard_normal(3).tobytes().hex()  # noqa: NPY002  # the global one


class Torch(Arrays):
    row, needs = "torch", "torch ml_dtypes"
    dtypes = (*INTS, *FLOATS, *ML_FLOATS, "bool", "complex64", "complex128")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import torch

        dtype = getattr(torch, of.dtype.name)
        return torch.frombuffer(bytearray(of.tobytes() or b"\0" * 16), dtype=dtype)[: of.size].view(of.shape).clone()

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        import torch

        return value.detach().contiguous().view(-1).view(torch.uint8).numpy()

    def values(self) -> dict[str, Any]:
        import torch

        grid = torch.arange(12.0).view(3, 4)
        other = {"turned": grid.t(), "expanded": torch.arange(3.0).expand(4, 3), "parameter": torch.nn.Parameter(grid)}
        last = torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last)
        return super().values() | other | {"last": last}

    def form(self, value: Any) -> list[Any]:
        return [type(value).__name__, str(value.dtype), list(value.shape), list(value.stride()), value.requires_grad]

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        import torch

        value = torch.arange(1000.0)
        return value, lambda: value.fill_(-1)

    def refused(self) -> dict[str, Any]:
        import torch

        lazy = torch.nn.LazyLinear(2).weight
        return {"lazy": lazy, "sparse": torch.eye(2).to_sparse(), "meta": torch.empty(2, device="meta")}

    def objects(self, seed: int) -> dict[str, Any]:
        import torch

        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.3))
        generator = torch.Generator().manual_seed(seed)
        return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1, 0.9), "generator": generator}

    def use(self, objects: dict[str, Any]) -> str:
        import torch

        model, optimizer = objects["model"], objects["optimizer"]
        torch.manual_seed(7)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.rand(4, 3, generator=objects["generator"])).square().sum().backward()
            optimizer.step()
        return "".join(self.bits(each).hex() for each in model.state_dict().values())

    def draw(self) -> str:
        import torch

        return self.bits(torch.rand(5)).hex()


def chance_bits(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Any bits at all: NaN with payloads, -0.0 and denormals are among them."""
    kind = named_dtype(dtype)
    size = kind.itemsize * int(np.prod(shape))
    raw = np.frombuffer(random.Random(dtype).randbytes(size), np.uint8).copy()
    if dtype == "bool":
        raw &= 1
    if dtype.startswith(("int4", "uint4")):
        raw &= 7
    return raw.view(kind).reshape(shape)


def named_dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))


def missing(row: type[Row]) -> str:
    """Return what to install for a row, or nothing."""
    needs = [name for name in row.needs.split() if importlib.util.find_spec(name) is None]
    return f"needs {needs[0]}: pip install {needs[0]}" if needs else ""


def rows() -> dict[str, type[Row]]:
    """Return the rows by name; those with heavy imports in their own files."""
    from tests.contracts import frameworks_jax, frameworks_keras, frameworks_tensorflow

    return {
        "plain": Plain,
        "numpy": NumPy,
        "torch": Torch,
        "jax": frameworks_jax.Jax,
        "tensorflow": frameworks_tensorflow.TensorFlow,
        "keras-tensorflow": frameworks_keras.KerasOnTensorFlow,
        "keras-torch": frameworks_keras.KerasOnTorch,
        "keras-jax": frameworks_keras.KerasOnJax,
    }
