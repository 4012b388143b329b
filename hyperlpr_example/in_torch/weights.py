"""torch networks ready to read plates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hyperlpr_example.in_torch.devices import device_named
from hyperlpr_example.in_torch.network import SegmentationFree, state_of, width_of
from hyperlpr_example.in_torch.reading import reader_of
from hyperlpr_example.published import published_layers
from supervisor.trainer import folder

if TYPE_CHECKING:
    from pathlib import Path

    from hyperlpr_example.reading import BestClasses


def published(device: str, threads: int) -> BestClasses:
    """What the published network reads."""
    return _reader(state_of(published_layers()), device, threads)


def reader_from(checkpoint: Path, device: str, threads: int) -> BestClasses:
    """What the network of a checkpoint reads; KeyError, AttributeError or RuntimeError if it holds another."""
    return _reader(folder.read(checkpoint)["model"], device, threads)


def _reader(weights: dict[str, torch.Tensor], device: str, threads: int) -> BestClasses:
    torch.set_num_threads(threads)
    network = SegmentationFree(width_of(weights))
    network.load_state_dict(weights)
    return reader_of(network.to(device_named(device)).eval())
