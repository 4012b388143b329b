"""Plates read by a network: pictures to texts, and how good the texts are; whatever framework the network is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hyperlpr_example.alphabet import read_greedily
from hyperlpr_example.metrics import Accuracy, measure
from hyperlpr_example.plates import Pictures

if TYPE_CHECKING:
    from hyperlpr_example.plates import LabelledPlates

BestClasses = Callable[[Pictures], list[list[int]]]  # of each picture, the best class of each output step

BATCH = 64


def read_plates(best_classes: BestClasses, pictures: Pictures, *, drop_first: int = 0) -> list[str]:
    """The texts of pictures (N, 3, 40, 160), uint8 BGR."""
    best: list[list[int]] = []
    for first in range(0, len(pictures), BATCH):
        best += best_classes(pictures[first : first + BATCH])
    return [read_greedily(classes, drop_first=drop_first) for classes in best]


def judge(best_classes: BestClasses, plates: LabelledPlates, *, drop_first: int = 0) -> Accuracy:
    """The accuracy on labelled plates."""
    return measure(read_plates(best_classes, plates.pictures, drop_first=drop_first), plates.texts)
