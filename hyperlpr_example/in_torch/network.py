"""HyperLPR's SegmenationFree-Inception recogniser in torch: plate pictures in, CTC class scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hyperlpr_example.alphabet import CLASSES

if TYPE_CHECKING:
    from hyperlpr_example.caffemodel import Floats

_PARTS = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")  # of a layer, as published
_EPSILON = 0.001  # of the published batch normalisations; torch's own default differs


class SegmentationFree(nn.Module):
    """Input (N, 3, 160, 40): BGR in 0..1, the plate's length first. Output (20, N, 84): class scores of each step, blank last.

    ``width`` scales all channels; 1.0 is the published network of 2,447,700 parameters.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c32, c64, c128, c256, c1024 = (max(1, round(channels * width)) for channels in (32, 64, 128, 256, 1024))
        self.stem = nn.Sequential(_halved(3, c32), _halved(c32, c64), _halved(c64, c128))
        self.height = _normalised(nn.Conv2d(c128, c256, (1, 5)))  # a column over the whole height left: 5
        self.branches = nn.ModuleList(
            _normalised(nn.Conv2d(c256, c256, (along, 1), padding=(along // 2, 0))) for along in (7, 5, 3, 1)
        )
        self.mix = _normalised(nn.Conv2d(4 * c256, c1024, 1))
        self.classes = nn.Conv2d(c1024, CLASSES, 1)

    def forward(self, plates: Tensor) -> Tensor:
        columns = self.height(self.stem(plates))
        seen = torch.cat([branch(columns) for branch in self.branches], dim=1)
        scores: Tensor = self.classes(self.mix(seen))
        return scores.squeeze(3).permute(2, 0, 1)


def state_of(layers: dict[str, list[Floats]]) -> dict[str, Tensor]:
    """The network's state dict from layers as ``published_layers`` gives them."""
    weights, bias = layers["classes"]
    state = {"classes.weight": torch.from_numpy(weights), "classes.bias": torch.from_numpy(bias)}
    for name, arrays in layers.items():
        if name != "classes":
            state |= {f"{name}.{part}": torch.from_numpy(array) for part, array in zip(_PARTS, arrays, strict=True)}
            state[f"{name}.1.num_batches_tracked"] = torch.tensor(0)
    return state


def width_of(weights: dict[str, Tensor]) -> float:
    """The ``width`` of the network that these weights belong to."""
    return weights["stem.0.0.weight"].shape[0] / 32


def _halved(channels_in: int, channels_out: int) -> nn.Sequential:
    """Published as normalise, ReLU, pool; ReLU after the pool gives the same numbers at a quarter of its cost."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out, _EPSILON), nn.MaxPool2d(2), nn.ReLU(inplace=True))


def _normalised(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels, _EPSILON), nn.ReLU(inplace=True))
