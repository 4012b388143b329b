"""NVIDIA's resiliency extension: torch.save in a process of its own, fed through its queue or forked for each save.

Its own ``async_save`` waits for a CUDA device. Without one its queue is driven here as that function does: the wait is left
out, and the copy from the device is a clone.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from nvidia_resiliency_ext.checkpointing.async_ckpt.core import AsyncCallsQueue, AsyncRequest
from torch import distributed as dist

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from benchmarks.measuring.state import TorchState

LOOK_EVERY_S = 0.001


class Persistent(TorchEngine):
    """One process for all saves."""

    version = version("nvidia-resiliency-ext")
    persistent = True

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        store = dist.FileStore(str(folder / "group"), 1)
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        torch.cuda.synchronize = lambda *_: None  # because there is no device to wait for
        self._queue = AsyncCallsQueue(persistent=self.persistent)

    def save(self) -> None:
        self._place = self.next_place(".pt")
        request = AsyncRequest(torch.save, (self._taken(), self._place), [], {})
        self._queue.schedule_async_request(request)

    def commit(self) -> Path:
        while self._queue.get_num_unfinalized_calls():
            self._queue.maybe_finalize_async_calls(blocking=False, no_dist=True)
            time.sleep(LOOK_EVERY_S)  # because waiting the library's own way looks every 0.1 s only
        return self._place

    def restore(self, checkpoint: Path) -> None:
        self.load(torch.load(checkpoint, map_location="cpu", weights_only=True))

    def _taken(self) -> dict[str, Any]:
        return _cloned(self.states())


class Forked(Persistent):
    """A process forked for each save: nothing is copied but what changes meanwhile."""

    persistent = False

    def _taken(self) -> dict[str, Any]:
        return self.states()


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(each) for key, each in value.items()}
    return [_cloned(each) for each in value] if isinstance(value, list) else value
