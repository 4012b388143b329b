"""A trace of machine deaths: how long each machine lives, drawn from a seed, in hours as they are on Colab."""

from __future__ import annotations

import math
import random

LIFE_H_MIN = 1 / 3
LIFE_H_MAX = 12.0


def lives_h(deaths: int, seed: int) -> list[float]:
    """Return how many hours each machine lives: log-uniform from 20 minutes to 12 hours, mean 3.3, median 2.

    Reports of free and paid Colab machines speak of deaths after minutes as of 2 to 5 hours, and of the limit of 12; nobody
    publishes a distribution. One life is drawn from each of ``deaths`` equal parts, in an order that is drawn too, so that
    few lives stand for the whole distribution with every seed.
    """
    chance = random.Random(f"lives/{seed}")
    low, high = math.log(LIFE_H_MIN), math.log(LIFE_H_MAX)
    drawn = [math.exp(low + (high - low) * (part + chance.random()) / deaths) for part in range(deaths)]
    chance.shuffle(drawn)
    return drawn
