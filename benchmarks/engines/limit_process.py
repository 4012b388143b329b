"""The shortest code that keeps a state by way of another process: whether a thread is the better place for writing.

Run the benchmark with ``--cores 1`` and ``--cores 2`` and compare ``lost`` of limit.copy.direct with this one's.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.engines.limits import Copy

if TYPE_CHECKING:
    from benchmarks.measuring.state import TorchState

WRITER = """
import mmap, os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from benchmarks.measuring import raw
os.nice(10)
memory = mmap.mmap(int(sys.argv[1]), 0)
for line in sys.stdin:
    raw.write_direct(Path(line.strip()), [memoryview(memory)])
    print("done", flush=True)
"""


class CopyProcess(Copy):
    """Training waits for a copy into kept shared memory; another process, with lower priority, writes that."""

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._writer: Any = None  # started with the buffer that it shares
        self._writing = False

    def save(self) -> None:
        self._place = self.next_place()
        if self._memory is None:
            self._memory = self._planned()
        torch._foreach_copy_(self._kept, self._tensors)  # as optimizers do
        self._writer.stdin.write(f"{self._place}\n")
        self._writer.stdin.flush()
        self._writing = True

    def commit(self) -> Path:
        if self._writing:
            self._writer.stdout.readline()
            self._writing = False
        return self._place

    def close(self) -> None:
        if self._writer is not None:
            self._writer.communicate()

    def _buffer(self, size: int) -> mmap.mmap:
        shared = os.memfd_create("snapshot")
        os.ftruncate(shared, size)
        command = [sys.executable, "-c", WRITER, str(shared), str(Path(__file__).resolve().parents[2])]
        self._writer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(shared,)
        )
        return mmap.mmap(shared, size)
