"""Plain Python: large bytes, bytearray, array and memoryview are leaves; ``random``'s state is saved."""

from __future__ import annotations

import array
import platform
import random
from typing import TYPE_CHECKING, Any

from supervisor.trainer.adapters.port import FrameworkAdapter, HostTarget, LeafSpec, RestoreTarget
from supervisor.trainer.errors import UnsupportedStateError
from supervisor.trainer.state.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable

    from supervisor.trainer.adapters.port import StateAccess

INLINE_BYTES_MAX = 1024  # smaller bytes stay in the JSON, where a person can see them
READ_AHEAD = "plain.ReadAhead"


class ReadAhead(bytes):
    """A position in data with the items that threads have read ahead.

    The amount varies, so that two of them are never compared.
    """

    __slots__ = ()


_BYTES = {bytes, bytearray, ReadAhead}
_BUFFERS = _BYTES | {array.array, memoryview}


class Plain(FrameworkAdapter):
    """The adapter for plain Python. Every script has it."""

    name = "plain"

    def describe(self) -> tuple[str, str]:
        return f"python {platform.python_version()}", "cpu"

    def encode(self, value: Any, path: str) -> tuple[dict[str, Any], LeafSpec | None] | None:
        kind = type(value)
        if kind in _BYTES:
            return {TAG: f"plain.{kind.__name__}"}, self._leaf(value, "U8", (len(value),), 1)
        if kind is array.array:
            return self._encode_array(value, path)
        if kind is memoryview:
            return self._encode_view(value, path)
        return None

    def signature(self, value: Any) -> Hashable:
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

    def restore_target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> RestoreTarget:  # noqa: ARG002  # the port has it
        raw = bytearray(size)
        return HostTarget(memoryview(raw), lambda: _made(raw, node))

    def state_access(self, value: Any) -> StateAccess | None:
        return (value.getstate, value.setstate) if isinstance(value, random.Random) else None

    def rng_state(self) -> Any:
        return random.getstate()

    def set_rng_state(self, state: Any) -> str | None:
        random.setstate(state)
        return None

    def _encode_array(self, value: array.array[Any], path: str) -> tuple[dict[str, Any], LeafSpec]:
        if value.typecode in {"u", "w"}:
            raise UnsupportedStateError(
                path, "an array of characters cannot be kept in a checkpoint", "keep the text as a str"
            )
        kind = "F" if value.typecode in "fd" else "I" if value.typecode.islower() else "U"
        node = {TAG: "plain.array", "code": value.typecode, "length": len(value)}
        return node, self._leaf(value, f"{kind}{8 * value.itemsize}", (len(value),), value.itemsize)

    def _encode_view(self, value: memoryview, path: str) -> tuple[dict[str, Any], LeafSpec]:
        if not value.c_contiguous or value.format.lstrip("@") not in set("bBhHiIlLqQfd?c") or value.ndim == 0:
            raise UnsupportedStateError(
                path, "this memoryview cannot be kept in a checkpoint", "return bytes(view) from state_dict()"
            )
        node = {
            TAG: "plain.memoryview",
            "format": value.format,
            "shape": list(value.shape or ()),
            "readonly": value.readonly,
        }
        return node, self._leaf(value, "U8", (value.nbytes,), 1)

    def _leaf(self, value: Any, dtype: str, shape: tuple[int, ...], item_bytes: int) -> LeafSpec:
        size = shape[0] * item_bytes
        return LeafSpec(dtype, shape, item_bytes, size, ("plain", id(value)), self)


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
