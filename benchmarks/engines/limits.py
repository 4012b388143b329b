"""The shortest code that keeps a state: what the others are compared with. No digests, no names, no verification."""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING

import torch

from benchmarks.engines.engine import TorchEngine
from benchmarks.measuring import raw

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import TorchState

ALIGN_BYTES = 8


class Raw(TorchEngine):
    """Training waits while all tensors are written one after the other, buffered, and flushed."""

    version = f"Linux {os.uname().release}"

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._tensors = state.tensors()  # kept, because nothing here ever replaces one
        self._chunks = [tensor.reshape(-1).view(torch.uint8).numpy().data for tensor in self._tensors]

    def save(self) -> None:
        self._place = self.next_place()
        raw.write_buffered(self._place, self._chunks)

    def restore(self, checkpoint: Path) -> None:
        raw.read(checkpoint, self._chunks)


class Copy(Raw):
    """Training waits for a copy into a kept buffer; a thread writes that."""

    write = staticmethod(raw.write_buffered)

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._memory: mmap.mmap | None = None
        self._kept: list[torch.Tensor] = []
        self._thread = threading.Thread()

    def save(self) -> None:
        self._place = self.next_place()
        if self._memory is None:
            self._memory = self._planned()
        torch._foreach_copy_(self._kept, self._tensors)  # as optimizers do
        self._thread = threading.Thread(target=self.write, args=(self._place, [memoryview(self._memory)]))
        self._thread.start()

    def commit(self) -> Path:
        self._thread.join()
        return self._place

    def restore(self, checkpoint: Path) -> None:
        gap = memoryview(bytearray(ALIGN_BYTES))
        raw.read(checkpoint, [part for chunk in self._chunks for part in (chunk, gap[: -len(chunk) % ALIGN_BYTES])])

    def _planned(self) -> mmap.mmap:
        sizes = [-(-len(chunk) // ALIGN_BYTES) * ALIGN_BYTES for chunk in self._chunks]
        memory = self._buffer(-(-sum(sizes) // raw.PAGE_BYTES) * raw.PAGE_BYTES)
        at = 0
        for tensor, size in zip(self._tensors, sizes, strict=True):
            kept = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=at)
            self._kept.append(kept.view(tensor.shape))
            at += size
        return memory

    def _buffer(self, size: int) -> mmap.mmap:
        return mmap.mmap(-1, size)


class CopyDirect(Copy):
    """The same past the page cache."""

    write = staticmethod(raw.write_direct)
