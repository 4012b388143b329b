"""Plain Python: large bytes, bytearray, array and memoryview go beside the tensors; ``random``'s state is kept."""

from __future__ import annotations

import array
import platform
import random
from typing import TYPE_CHECKING, Any

from supervisor.trainer.leaf import Leaf
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.trainer.frameworks.framework import Scalar, StateAccess

INLINE_BYTES_MAX = 1024  # smaller bytes stay in the JSON, where a person can see them


class Plain:
    """The port's methods for this framework. Never absent: it is the row every script has."""

    name = "plain"

    def describe(self) -> tuple[str, str]:
        return f"python {platform.python_version()}", "cpu"

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        kind = type(value)
        if kind in {bytes, bytearray}:
            return {TAG: f"plain.{kind.__name__}"}, _bytes_leaf(value)
        if kind is array.array:
            return _keep_array(value, path)
        if kind is memoryview:
            return _keep_view(value, path)
        return None

    def give(self, node: dict[str, Any], parts: Sequence[memoryview], *, on_host: bool) -> Any:  # noqa: ARG002  # the port has it
        kind = node[TAG].removeprefix("plain.")
        if kind == "array":
            numbers = array.array(node["code"])
            for part in parts:
                numbers.frombytes(part)
            return numbers
        joined = bytearray().join(parts)
        if kind == "bytearray":
            return joined
        if kind == "bytes":
            return bytes(joined)
        return memoryview(bytes(joined) if node["readonly"] else joined).cast("B").cast(node["format"], node["shape"])

    def access(self, value: Any) -> StateAccess | None:
        return (value.getstate, value.setstate) if isinstance(value, random.Random) else None

    def places_itself(self, value: Any) -> bool:  # noqa: ARG002  # the port has it
        return False

    def rng_state(self) -> Any:
        return random.getstate()

    def set_rng_state(self, state: Any) -> str | None:
        random.setstate(state)
        return None

    def logged(self, value: Any) -> Any:  # noqa: ARG002  # plain scalars are kept before a framework is asked
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:  # noqa: ARG002  # the port has it
        return None

    def is_device_oom(self, error: BaseException) -> bool:  # noqa: ARG002  # plain Python has no device
        return False


def _keep_array(value: array.array[Any], path: str) -> tuple[dict[str, Any], Leaf]:
    if value.typecode in {"u", "w"}:
        raise RefusedError(path, "an array of characters cannot be kept in a checkpoint", "keep the text as a str")
    kind = "F" if value.typecode in "fd" else "I" if value.typecode.islower() else "U"
    node = {TAG: "plain.array", "code": value.typecode, "length": len(value)}
    size = value.itemsize
    leaf = Leaf(f"{kind}{8 * size}", (len(value),), size, len(value) * size, ("plain", id(value)), _copier(value))
    return node, leaf


def _keep_view(value: memoryview, path: str) -> tuple[dict[str, Any], Leaf]:
    if not value.c_contiguous or value.format.lstrip("@") not in set("bBhHiIlLqQfd?c") or value.ndim == 0:
        raise RefusedError(
            path, "this memoryview cannot be kept in a checkpoint", "return bytes(view) from state_dict()"
        )
    node = {
        TAG: "plain.memoryview",
        "format": value.format,
        "shape": list(value.shape or ()),
        "readonly": value.readonly,
    }
    return node, Leaf("U8", (value.nbytes,), 1, value.nbytes, ("plain", id(value)), _copier(value))


def _bytes_leaf(value: bytes | bytearray) -> Leaf | None:
    return Leaf("U8", (len(value),), 1, len(value), ("plain", id(value)), _copier(value))


def _copier(value: Any) -> Callable[[memoryview, int], None]:
    source_type = value  # keeps the object alive: its id is its identity

    def copy_items(out: memoryview, first: int) -> None:
        source = memoryview(source_type)
        begin = first * source.itemsize
        raw = source.cast("B") if source.nbytes else memoryview(b"")
        out[:] = raw[begin : begin + len(out)]

    return copy_items
