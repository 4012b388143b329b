"""What memory and disk give for as many bytes as the state has, in a process of its own: appends one JSON line of samples.

python -m benchmarks.measuring.limits ORDER      ORDER is a JSON object: see ``Order``
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from benchmarks.measuring import disk, raw
from benchmarks.measuring.processes import use_cores

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 2


class Order(NamedTuple):
    """``bytes`` is the state's size, ``folder`` an empty one on the disk that is measured."""

    bytes: int
    folder: str
    out: str
    repeat: int
    cores: int = 0


def measured(order: Order) -> dict[str, list[float]]:
    """Return samples in seconds by name; every write makes a new file."""
    size = -(-order.bytes // raw.PAGE_BYTES) * raw.PAGE_BYTES
    source = torch.zeros(size, dtype=torch.uint8).numpy()  # in memory as torch takes it, like a model's
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    kept = np.frombuffer(memory, dtype=np.uint8)
    kept.fill(1)
    view = memoryview(memory)
    place = Path(order.folder) / "limit"
    found: dict[str, list[float]] = {}

    def note(name: str, act: Callable[[], object]) -> None:
        began = perf_counter()
        act()
        found.setdefault(name, []).append(perf_counter() - began)

    for _ in range(WARM_UP + order.repeat):
        np.add(source, 1, out=source)
        note("memcpy_s", lambda: np.copyto(kept, source))
        np.add(source, 1, out=source)
        note("memcpy_threads_s", lambda: _copy_by_two(kept, source))
        note("raw_write_direct_s", lambda: raw.write_direct(place, [view]))
        disk.remove(place)
        note("raw_write_fsync_s", lambda: raw.write_buffered(place, [view]))
        disk.drop(place)
        note("raw_read_s", lambda: raw.read(place, [view]))
        note("raw_read_warm_s", lambda: raw.read(place, [view]))
        disk.remove(place)
    return {name: samples[WARM_UP:] for name, samples in found.items()}


def _copy_by_two(kept: np.ndarray, source: np.ndarray) -> None:
    half = len(kept) // 2
    other = Thread(target=np.copyto, args=(kept[:half], source[:half]))
    other.start()
    np.copyto(kept[half:], source[half:])
    other.join()


def main(text: str) -> None:
    """Measure and append the samples."""
    order = Order(**json.loads(text))
    if order.cores:
        use_cores(order.cores)
    with Path(order.out).open("a", encoding="utf-8") as out:
        print(json.dumps(measured(order)), file=out)


if __name__ == "__main__":
    main(sys.argv[1])
