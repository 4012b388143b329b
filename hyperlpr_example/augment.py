"""New looks for plate pictures on every visit: perspective, blur, light and noise, drawn here, given to pictures by a framework."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH

Floats = npt.NDArray[np.float32]

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


class Looks(NamedTuple):
    """The looks of B pictures, in the order in which they are given: seen from elsewhere, blurred, lit, noisy.

    ``grid`` (B, 160, 40, 2) says for each place of the new picture, which has the plate's length first, where to look in the
    old one: x along and y down, -1..1 from edge to edge, between four pixels linearly, outside at the edge.
    ``blur`` (B): how far to go from the picture to the mean of each pixel with its neighbours; below 0 it gets sharper.
    ``gain`` and ``shift`` (B, 3): factor and summand of each channel. ``noise`` (B): its strength; ``noise_seed`` for all.
    """

    grid: Floats
    blur: Floats
    gain: Floats
    shift: Floats
    noise: Floats
    noise_seed: int


def drawn_looks(count: int, rng: np.random.Generator) -> Looks:
    """Looks for ``count`` pictures; they follow from ``rng``."""
    grid = _grid(_homographies(_corners(count, rng)))
    blur = np.where(rng.random(count) < 0.5, rng.uniform(-0.4, 1.0, count), 0.0)
    gain = np.exp(rng.normal(0, 0.25, (count, 1)) + rng.normal(0, 0.08, (count, 3)))
    shift = rng.normal(0, 0.06, (count, 1)) + rng.normal(0, 0.02, (count, 3))
    noise_seed = int(rng.integers(2**62))
    noise = rng.uniform(0, 0.03, count)
    return Looks(grid, _floats(blur), _floats(gain), _floats(shift), _floats(noise), noise_seed)


def _floats(values: npt.NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)


def _corners(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(B, 4, 2): where in the old picture (-1..1 in both directions) the corners of the new one lie."""
    corners = np.tile(_CORNERS, (count, 1, 1))
    corners = corners * np.exp(rng.normal([0.02, 0.02], [0.03, 0.08], (count, 1, 2)))
    corners += rng.normal(0, [0.02, 0.06], (count, 1, 2))
    x, y = corners[..., 0].copy(), corners[..., 1].copy()
    corners[..., 1] += x * rng.normal(0, 0.1, (count, 1))
    corners[..., 0] += y * rng.normal(0, 0.03, (count, 1))
    return corners + rng.normal(0, [0.015, 0.04], (count, 4, 2))


def _homographies(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B, 3, 3) maps from the new picture's -1..1 square to the old one, from where its corners go."""
    rows = np.zeros((len(corners), 8, 8))
    for place, (x, y) in enumerate(_CORNERS):
        u, v = corners[:, place, 0], corners[:, place, 1]
        rows[:, 2 * place, :3] = rows[:, 2 * place + 1, 3:6] = (x, y, 1)
        rows[:, 2 * place, 6:] = np.stack([-u * x, -u * y], 1)
        rows[:, 2 * place + 1, 6:] = np.stack([-v * x, -v * y], 1)
    solved = np.linalg.solve(rows, corners.reshape(-1, 8, 1))[..., 0]
    return np.concatenate([solved, np.ones((len(corners), 1))], 1).reshape(-1, 3, 3)


def _grid(homographies: npt.NDArray[np.float64]) -> Floats:
    along = (np.arange(PLATE_WIDTH, dtype=np.float32) + 0.5) / PLATE_WIDTH * 2 - 1
    down = (np.arange(PLATE_HEIGHT, dtype=np.float32) + 0.5) / PLATE_HEIGHT * 2 - 1
    places = np.stack([*np.meshgrid(along, down, indexing="ij"), np.ones((PLATE_WIDTH, PLATE_HEIGHT), np.float32)], -1)
    moved = places.reshape(1, -1, 3) @ homographies.astype(np.float32).transpose(0, 2, 1)
    flat = moved[..., :2] / moved[..., 2:]
    return flat.reshape(-1, PLATE_WIDTH, PLATE_HEIGHT, 2)
