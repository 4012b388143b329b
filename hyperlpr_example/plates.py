"""Labelled plate pictures, as the network takes them; their size, shared by all that makes or reads pictures without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PLATE_WIDTH = 160
PLATE_HEIGHT = 40

Pictures = npt.NDArray[np.uint8]  # (N, 3, 40, 160), BGR


@dataclass(frozen=True, slots=True)
class LabelledPlates:
    """Pictures and their texts, in the same order."""

    pictures: Pictures
    texts: list[str]
