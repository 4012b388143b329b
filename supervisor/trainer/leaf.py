"""A leaf of a state tree: a block of numbers that goes into a safetensors file, whatever framework it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


@dataclass(frozen=True, slots=True)
class Leaf:
    """``copy_items(out, first)`` copies the row-major items from ``first`` on into ``out`` until it is full.

    ``dtype`` and ``shape`` are what the safetensors header says. Leaves of equal ``identity`` share their memory and are
    stored once; None is never shared. The closure keeps the tensor alive, so that no address is met twice in one walk.
    """

    dtype: str
    shape: tuple[int, ...]
    item_bytes: int
    bytes: int
    identity: Hashable
    copy_items: Callable[[memoryview, int], None]
