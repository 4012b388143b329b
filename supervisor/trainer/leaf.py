"""A leaf of a state tree: a block of numbers that goes into a safetensors file, whatever framework it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from supervisor.trainer.frameworks.framework import Framework


class Leaf(NamedTuple):
    """What a leaf looks like; ``framework`` knows how its bytes are read and written, in row-major order.

    ``dtype`` and ``shape`` are what the safetensors header says. Leaves of equal ``identity`` share their memory and are
    stored once; None is never shared.
    """

    dtype: str
    shape: tuple[int, ...]
    item_bytes: int
    bytes: int
    identity: Hashable
    framework: Framework
