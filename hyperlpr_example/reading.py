"""Plates read by a network: pictures to texts, and how good the texts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hyperlpr_example.alphabet import read_greedily
from hyperlpr_example.metrics import Accuracy, measure

if TYPE_CHECKING:
    from hyperlpr_example.plates import LabelledPlates, Pictures

_BATCH = 64


def read_plates(network: nn.Module, pictures: Pictures, *, drop_first: int = 0) -> list[str]:
    """The texts of pictures (N, 3, 40, 160), uint8 BGR; the network is left in the mode, and on the device, it was in."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    best: list[list[int]] = []
    with torch.inference_mode():
        for first in range(0, len(pictures), _BATCH):
            plates = torch.from_numpy(pictures[first : first + _BATCH]).to(device).float().div_(255).transpose(2, 3)
            best += network(plates.contiguous(memory_format=torch.channels_last)).argmax(2).T.tolist()
    network.train(was_training)
    return [read_greedily(classes, drop_first=drop_first) for classes in best]


def judge(network: nn.Module, plates: LabelledPlates, *, drop_first: int = 0) -> Accuracy:
    """The accuracy of a network on labelled plates."""
    return measure(read_plates(network, plates.pictures, drop_first=drop_first), plates.texts)
