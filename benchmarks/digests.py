"""How fast digests are on this machine, on memory that a checkpoint was just copied to: ``python -m benchmarks.digests``.

Why checkpoints bear XXH3: verifying may cost no more than reading. blake3 is left out where its package is absent.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE_BYTES = 1024 * 1024  # as a restore hashes
SLICES = 256
TRIES = 5


def main() -> None:
    """Print a line for each: GB/s on one core, and how many times the copying of the same bytes it takes."""
    source, target = bytes(SLICE_BYTES), bytearray(SLICE_BYTES)
    copied_s = _seconds(lambda: [target.__setitem__(slice(None), source) for _ in range(SLICES)])
    print(f"{'copy':<10}{SLICE_BYTES * SLICES / copied_s / 1e9:6.1f} GB/s")
    for name, make in _digests().items():
        took_s = _seconds(lambda make=make: _hashed(make(), source))
        print(f"{name:<10}{SLICE_BYTES * SLICES / took_s / 1e9:6.1f} GB/s {took_s / copied_s:7.1f} x the copy")


def _digests() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for name, module, make in (("xxh3-128", "xxhash", "xxh3_128"), ("blake3", "blake3", "blake3")):
        try:
            found[name] = getattr(import_module(module), make)
        except ImportError:
            print(f"{name}: the {module} package is not there")
    return found | {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}


def _hashed(digest: Any, piece: bytes) -> None:
    for _ in range(SLICES):
        digest.update(piece)


def _seconds(work: Callable[[], object]) -> float:
    return statistics.median(_timed(work) for _ in range(TRIES))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
