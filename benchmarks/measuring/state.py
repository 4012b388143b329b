"""The state that is saved: a model and Adam's moments in fp32, as large as a small, a medium and a large training run's."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTTLENECKS = ((64, 3), (128, 4), (256, 6), (512, 3))  # ResNet-50: width and number of blocks of each stage
GPT_WIDTH, GPT_LAYERS, GPT_WORDS, GPT_CONTEXT = 1024, 12, 50304, 1024


class State(Protocol):
    """What the phases do with a state, whatever framework holds it. Tensors are changed in place, never replaced."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""

    def touch(self) -> None:
        """Change every floating-point tensor a little, in place: what one optimizer step does to the memory."""

    def zero(self) -> None:
        """Forget the values, so that a restore must bring them back."""

    def fingerprint(self) -> list[int]:
        """Return a number for each tensor that differs if a bit of it does."""


class TorchState:
    """A model and its optimizer. ``tensors`` are looked up anew each time, because loading an optimizer replaces its own."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, size: str) -> None:
        torch.manual_seed(1)
        self.model = MODELS[size]()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        for parameter in self.model.parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(7.0),
                "exp_avg": torch.randn_like(parameter),
                "exp_avg_sq": torch.rand_like(parameter),
            }

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def touch(self) -> None:
        torch._foreach_add_([tensor.view(torch.int32) for tensor in self._floats()], 1)  # as optimizers do

    def zero(self) -> None:
        with torch.no_grad():
            for tensor in self.tensors():
                tensor.zero_()

    def fingerprint(self) -> list[int]:
        return [zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) for tensor in self.tensors()]

    def tensors(self) -> list[torch.Tensor]:
        """Return every tensor of the state, in an order that does not change."""
        return list(self._walk())

    def _floats(self) -> list[torch.Tensor]:
        return [tensor for tensor in self._walk() if tensor.is_floating_point()]

    def _walk(self) -> Iterator[torch.Tensor]:
        yield from self.model.state_dict().values()
        for parameter in self.model.parameters():
            yield from self.optimizer.state[parameter].values()


class FlatState(TorchState):
    """So many tensors of one size: ``size`` is like "100x4096", tensors and numbers in each. The optimizer keeps nothing."""

    def __init__(self, size: str) -> None:
        number, _, length = size.partition("x")
        torch.manual_seed(1)
        self.model = nn.ParameterList(torch.rand(int(length)) for _ in range(int(number)))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)


def _recogniser() -> nn.Module:
    """A small convolutional net like LPRNet: 58 parameters, 6 MB with the moments."""
    blocks: list[nn.Module] = []
    for _ in range(14):
        blocks += [nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)]
    return nn.Sequential(*blocks, nn.Conv2d(64, 68, 1))


def _resnet50() -> nn.Module:
    """ResNet-50's layers in its order: 161 parameters, 307 MB with the moments. It is never run."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
    before = 64
    for width, blocks in BOTTLENECKS:
        for block in range(blocks):
            for entering, leaving, side in ((before, width, 1), (width, width, 3), (width, 4 * width, 1)):
                layers += [nn.Conv2d(entering, leaving, side, bias=False), nn.BatchNorm2d(leaving)]
            if block == 0:
                layers += [nn.Conv2d(before, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)]
            before = 4 * width
    return nn.Sequential(*layers, nn.Linear(before, 1000))


def _gpt() -> nn.Module:
    """The layers of a GPT of 203 million parameters: 148 tensors, 2.4 GB with the moments. It is never run."""
    layers: list[nn.Module] = [nn.Embedding(GPT_WORDS, GPT_WIDTH), nn.Embedding(GPT_CONTEXT, GPT_WIDTH)]
    for _ in range(GPT_LAYERS):
        layers += [nn.LayerNorm(GPT_WIDTH), nn.Linear(GPT_WIDTH, 3 * GPT_WIDTH), nn.Linear(GPT_WIDTH, GPT_WIDTH)]
        layers += [nn.LayerNorm(GPT_WIDTH), nn.Linear(GPT_WIDTH, 4 * GPT_WIDTH), nn.Linear(4 * GPT_WIDTH, GPT_WIDTH)]
    return nn.Sequential(*layers, nn.LayerNorm(GPT_WIDTH))


MODELS = {"small": _recogniser, "medium": _resnet50, "large": _gpt}
