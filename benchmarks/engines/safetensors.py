"""safetensors.torch.save_file: one file of named tensors, left to the page cache."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path


class SaveFile(TorchEngine):
    """Tensors only, so a script would keep the optimizer's few numbers elsewhere."""

    version = version("safetensors")

    def save(self) -> None:
        self._place = self.next_place(".safetensors")
        save_file({str(number): tensor.detach() for number, tensor in enumerate(self.state.tensors())}, self._place)

    def restore(self, checkpoint: Path) -> None:
        loaded = load_file(checkpoint)
        with torch.no_grad():
            for number, tensor in enumerate(self.state.tensors()):
                tensor.copy_(loaded[str(number)])
