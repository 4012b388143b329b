"""torchsnapshot: blocking, and asynchronous after a copy."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # because it was written for an older torch
    from torchsnapshot import Snapshot

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path


class Take(TorchEngine):
    """Written while training waits, left to the page cache."""

    version = version("torchsnapshot")

    def save(self) -> None:
        self._place = self.next_place()
        Snapshot.take(str(self._place), self._objects())

    def restore(self, checkpoint: Path) -> None:
        Snapshot(str(checkpoint)).restore(self._objects())

    def _objects(self) -> dict[str, Any]:
        return {"model": self.state.model, "optimizer": self.state.optimizer}


class AsyncTake(Take):
    """A copy, then a thread."""

    def save(self) -> None:
        self._place = self.next_place()
        self._pending = Snapshot.async_take(str(self._place), self._objects())

    def commit(self) -> Path:
        self._pending.wait()
        return self._place
