"""What a torch network says about pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from hyperlpr_example.plates import Pictures
    from hyperlpr_example.reading import BestClasses


def reader_of(network: nn.Module) -> BestClasses:
    """The network as it is whenever it is asked; it is left in the mode, and on the device, it was in."""

    def best_classes(pictures: Pictures) -> list[list[int]]:
        device = next(network.parameters()).device
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            plates = torch.from_numpy(pictures).to(device).float().div_(255).transpose(2, 3)
            best: list[list[int]] = network(plates.contiguous(memory_format=torch.channels_last)).argmax(2).T.tolist()
        network.train(was_training)
        return best

    return best_classes
