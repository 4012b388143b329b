"""Plain Python: large bytes, bytearray, array and memoryview go beside the tensors; ``random``'s state is kept."""

from __future__ import annotations

import array
import platform
import random
from typing import TYPE_CHECKING, Any

from supervisor.trainer.frameworks.framework import Framework, HostTarget, Target
from supervisor.trainer.leaf import Leaf
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable

    from supervisor.trainer.frameworks.framework import StateAccess

INLINE_BYTES_MAX = 1024  # smaller bytes stay in the JSON, where a person can see them
READ_AHEAD = "plain.ReadAhead"


class ReadAhead(bytes):
    """A place in the data with what threads have read ahead there, which is never as much twice: no two are compared."""

    __slots__ = ()


_BYTES = {bytes, bytearray, ReadAhead}
_BUFFERS = _BYTES | {array.array, memoryview}


class Plain(Framework):
    """The port's methods for this framework. Never absent: it is the row every script has."""

    name = "plain"

    def describe(self) -> tuple[str, str]:
        return f"python {platform.python_version()}", "cpu"

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        kind = type(value)
        if kind in _BYTES:
            return {TAG: f"plain.{kind.__name__}"}, self._leaf(value, "U8", (len(value),), 1)
        if kind is array.array:
            return self._keep_array(value, path)
        if kind is memoryview:
            return self._keep_view(value, path)
        return None

    def token(self, value: Any) -> Hashable:
        if type(value) not in _BUFFERS:
            return None
        view = memoryview(value)
        return type(value), view.format, view.shape, view.readonly, view.c_contiguous

    def address(self, value: Any) -> Hashable:
        return id(value)

    def read(self, value: Any, first: int, out: memoryview) -> None:
        source = memoryview(value)
        raw = source.cast("B") if source.nbytes else memoryview(b"")
        out[:] = raw[first : first + len(out)]

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:  # noqa: ARG002  # the port has it
        raw = bytearray(size)
        return HostTarget(memoryview(raw), lambda: _made(raw, node))

    def access(self, value: Any) -> StateAccess | None:
        return (value.getstate, value.setstate) if isinstance(value, random.Random) else None

    def rng_state(self) -> Any:
        return random.getstate()

    def set_rng_state(self, state: Any) -> str | None:
        random.setstate(state)
        return None

    def _keep_array(self, value: array.array[Any], path: str) -> tuple[dict[str, Any], Leaf]:
        if value.typecode in {"u", "w"}:
            raise RefusedError(path, "an array of characters cannot be kept in a checkpoint", "keep the text as a str")
        kind = "F" if value.typecode in "fd" else "I" if value.typecode.islower() else "U"
        node = {TAG: "plain.array", "code": value.typecode, "length": len(value)}
        return node, self._leaf(value, f"{kind}{8 * value.itemsize}", (len(value),), value.itemsize)

    def _keep_view(self, value: memoryview, path: str) -> tuple[dict[str, Any], Leaf]:
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
        return node, self._leaf(value, "U8", (value.nbytes,), 1)

    def _leaf(self, value: Any, dtype: str, shape: tuple[int, ...], item_bytes: int) -> Leaf:
        size = shape[0] * item_bytes
        return Leaf(dtype, shape, item_bytes, size, ("plain", id(value)), self)


def _made(raw: bytearray, node: dict[str, Any]) -> Any:
    kind = node[TAG].removeprefix("plain.")
    if kind == "array":
        return array.array(node["code"], bytes(raw))
    if kind == "bytearray":
        return raw
    if kind == "bytes":
        return bytes(raw)
    if kind == "ReadAhead":
        return ReadAhead(raw)
    return memoryview(bytes(raw) if node["readonly"] else raw).cast("B").cast(node["format"], node["shape"])
