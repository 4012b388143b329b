"""Batches on Keras's device: the plates lie there from the start, and get their looks there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from hyperlpr_example.alphabet import BLANK
from hyperlpr_example.augment import Looks
from hyperlpr_example.in_keras.devices import compiled

if TYPE_CHECKING:
    from hyperlpr_example.batches import Mixture


class Batch(NamedTuple):
    """Pictures (B, 160, 40, 3), BGR around 0..1; classes (B, 8), which end with BLANK where a plate is shorter."""

    pictures: Any
    classes: Any


class Batches:
    """The batches of a mixture; batch(N) is always the same."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self._pictures = ops.convert_to_tensor(np.ascontiguousarray(mixture.pictures.transpose(0, 2, 3, 1)))
        self._augmented = compiled(augmented)
        beyond = np.arange(mixture.classes.shape[1]) >= mixture.lengths[:, None]
        self._classes = np.where(beyond, BLANK, mixture.classes).astype(np.int32)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        drawn = self._mixture.drawn(step)
        pictures = ops.take(self._pictures, drawn.chosen.astype(np.int32), axis=0)
        return Batch(
            self._augmented(*arguments(pictures, drawn.looks)), ops.convert_to_tensor(self._classes[drawn.chosen])
        )


def arguments(pictures: Any, looks: Looks) -> tuple[Any, Any, Looks]:
    """What ``augmented`` is given: all that a program takes must be tensors, and the noise is drawn before."""
    noise = keras.random.normal((*looks.grid.shape[:3], 3), seed=looks.noise_seed % 2**31)
    grid, blur, gain, shift, strength = (ops.convert_to_tensor(values) for values in looks[:5])
    return pictures, noise, Looks(grid, blur, gain, shift, strength, 0)


def augmented(pictures: Any, noise: Any, looks: Looks) -> Any:
    """uint8 (B, 40, 160, 3) to float (B, 160, 40, 3) around 0..1, as the network takes it."""
    seen = _seen_from(ops.cast(pictures, "float32") / 255, looks.grid)
    near = ops.average_pool(seen, 3, 1, padding="same")
    seen += (near - seen) * looks.blur[:, None, None, None]
    return seen * looks.gain[:, None, None] + looks.shift[:, None, None] + noise * looks.noise[:, None, None, None]


def _seen_from(pictures: Any, grid: Any) -> Any:
    """What the grid's places show, between four pixels linearly; outside, the edge."""
    count, height, width, channels = pictures.shape
    x = ops.clip((grid[..., 0] + 1) * (width / 2) - 0.5, 0.0, width - 1.0)
    y = ops.clip((grid[..., 1] + 1) * (height / 2) - 0.5, 0.0, height - 1.0)
    left, top = ops.floor(x), ops.floor(y)
    across, down = (x - left)[..., None], (y - top)[..., None]
    first_pixel = np.arange(count, dtype=np.int32)[:, None, None] * (height * width)
    upper = first_pixel + ops.cast(top, "int32") * width
    lower = first_pixel + ops.cast(ops.minimum(top + 1, height - 1.0), "int32") * width
    left, right = ops.cast(left, "int32"), ops.cast(ops.minimum(left + 1, width - 1.0), "int32")
    pixels = ops.reshape(pictures, (-1, channels))
    corners = [ops.take(pixels, row + column, axis=0) for row in (upper, lower) for column in (left, right)]
    above, below = (one + (other - one) * across for one, other in (corners[:2], corners[2:]))
    return above + (below - above) * down
