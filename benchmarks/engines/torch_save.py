"""torch.save as most scripts use it, and as it would have to be used to survive a crash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path


class Save(TorchEngine):
    """One file, left to the page cache."""

    version = torch.__version__

    def save(self) -> None:
        self._place = self.next_place(".pt")
        torch.save(self.states(), self._place)

    def restore(self, checkpoint: Path) -> None:
        self.load(torch.load(checkpoint, map_location="cpu", weights_only=True))


class SaveFlushed(Save):
    """Written beside, flushed, renamed, and its folder flushed."""

    def save(self) -> None:
        self._place = self.next_place(".pt")
        beside = self._place.with_suffix(".tmp")
        with beside.open("wb") as file:
            torch.save(self.states(), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._place)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
