"""Orbax's asynchronous checkpointer on the CPU, given the tensors as NumPy arrays that share their memory."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from orbax import checkpoint as orbax

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from benchmarks.measuring.state import TorchState


class Async(TorchEngine):
    """Flushed and renamed; compressed, as is its default."""

    version = version("orbax-checkpoint")

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._checkpointer = orbax.AsyncCheckpointer(orbax.StandardCheckpointHandler())

    def save(self) -> None:
        self._place = self.next_place()
        self._checkpointer.save(self._place, args=orbax.args.StandardSave(self._arrays()))

    def commit(self) -> Path:
        self._checkpointer.wait_until_finished()
        return self._place

    def restore(self, checkpoint: Path) -> None:
        loaded = self._checkpointer.restore(checkpoint, args=orbax.args.StandardRestore(self._arrays()))
        with torch.no_grad():
            for number, tensor in enumerate(self.state.tensors()):
                tensor.copy_(torch.from_numpy(loaded[str(number)]))

    def close(self) -> None:
        self._checkpointer.close()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {str(number): tensor.detach().numpy() for number, tensor in enumerate(self.state.tensors())}
