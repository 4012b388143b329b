"""Batches on torch's device: the plates lie there from the start, and get their looks there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows it by
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hyperlpr_example.augment import Looks
    from hyperlpr_example.batches import Mixture


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures (B, 3, 160, 40), BGR around 0..1; classes (B, 8) padded with 0; their lengths (B), which stay on the CPU."""

    pictures: Tensor
    classes: Tensor
    lengths: Tensor


class Batches:
    """The batches of a mixture; batch(N) is always the same."""

    def __init__(self, mixture: Mixture, device: torch.device) -> None:
        # A TPU is given what is ready, because it would compile each of the small steps on the way there.
        home = torch.device("cpu") if device.type == "xla" else device
        self._mixture = mixture
        self._device, self._home = device, home
        self._pictures = torch.from_numpy(mixture.pictures).to(home)
        self._classes = torch.from_numpy(mixture.classes).to(home)
        self._lengths = torch.from_numpy(mixture.lengths)  # on the CPU, because the CTC loss would wait to read them

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        drawn = self._mixture.drawn(step)
        rows = torch.from_numpy(drawn.chosen)
        there = rows.to(self._home, non_blocking=True)
        pictures = augmented(self._pictures[there], drawn.looks).to(self._device)
        return Batch(pictures, self._classes[there].to(self._device), self._lengths[rows])


def augmented(pictures: Tensor, looks: Looks) -> Tensor:
    """uint8 (B, 3, 40, 160) to float (B, 3, 160, 40) around 0..1, as the network takes it."""
    device = pictures.device
    grid = torch.from_numpy(looks.grid).to(device, non_blocking=True)
    seen = F.grid_sample(pictures.float().div_(255), grid, padding_mode="border", align_corners=False)
    seen = seen.lerp(F.avg_pool2d(seen, 3, 1, 1, count_include_pad=False), _column(looks.blur, device))
    seen = seen.mul_(_column(looks.gain, device)).add_(_column(looks.shift, device))
    noise = torch.Generator(device).manual_seed(looks.noise_seed)
    return seen.addcmul_(torch.randn(seen.shape, generator=noise, device=device), _column(looks.noise, device))


def _column(values: npt.NDArray[np.float32], device: torch.device) -> Tensor:
    """One value a picture, or one a picture and channel, to be multiplied with (B, 3, 160, 40)."""
    ready = torch.from_numpy(values).to(device, non_blocking=True)
    return ready[..., None, None] if ready.ndim == 2 else ready[:, None, None, None]
