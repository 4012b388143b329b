"""Lightning's AsyncCheckpointIO: a clone of every tensor, then a thread with torch.save."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import TorchState


class Async(TorchEngine):
    """Writes to a temporary file and moves it over, unflushed."""

    version = version("lightning")

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._plugin = AsyncCheckpointIO(TorchCheckpointIO())

    def save(self) -> None:
        self._place = self.next_place(".ckpt")
        self._plugin.save_checkpoint(self.states(), str(self._place))

    def commit(self) -> Path:
        self._plugin.teardown()
        return self._place

    def restore(self, checkpoint: Path) -> None:
        self.load(self._plugin.load_checkpoint(str(checkpoint), weights_only=True))
