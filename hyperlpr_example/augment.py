"""New looks for plate pictures on every visit: perspective, blur, light and noise, for a whole batch at once on its device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows it by
from torch import Tensor

from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def augmented(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """uint8 (B, 3, 40, 160) to float (B, 3, 160, 40) around 0..1, as the network takes it; the look follows from ``rng``."""
    count, device = len(pictures), pictures.device
    grid = _grid(_homographies(_corners(count, rng))).to(device, non_blocking=True)
    seen = F.grid_sample(pictures.float().div_(255), grid, padding_mode="border", align_corners=False)
    blur = _column(np.where(rng.random(count) < 0.5, rng.uniform(-0.4, 1.0, count), 0.0), device)
    seen = seen.lerp(F.avg_pool2d(seen, 3, 1, 1, count_include_pad=False), blur)
    gain = np.exp(rng.normal(0, 0.25, (count, 1)) + rng.normal(0, 0.08, (count, 3)))
    shift = rng.normal(0, 0.06, (count, 1)) + rng.normal(0, 0.02, (count, 3))
    seen = seen.mul_(_column(gain, device)).add_(_column(shift, device))
    noise = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    strength = _column(rng.uniform(0, 0.03, count), device)
    return seen.addcmul_(torch.randn(seen.shape, generator=noise, device=device), strength)


def _column(values: npt.NDArray[np.float64], device: torch.device) -> Tensor:
    """One value a picture, or one a picture and channel, to be multiplied with (B, 3, 160, 40)."""
    ready = torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)
    return ready[..., None, None] if ready.ndim == 2 else ready[:, None, None, None]


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


def _grid(homographies: npt.NDArray[np.float64]) -> Tensor:
    """(B, 160, 40, 2): for each place of the turned-over new picture, where to look in the old one."""
    along = (np.arange(PLATE_WIDTH, dtype=np.float32) + 0.5) / PLATE_WIDTH * 2 - 1
    down = (np.arange(PLATE_HEIGHT, dtype=np.float32) + 0.5) / PLATE_HEIGHT * 2 - 1
    places = np.stack([*np.meshgrid(along, down, indexing="ij"), np.ones((PLATE_WIDTH, PLATE_HEIGHT), np.float32)], -1)
    moved = places.reshape(1, -1, 3) @ homographies.astype(np.float32).transpose(0, 2, 1)
    flat = moved[..., :2] / moved[..., 2:]
    return torch.from_numpy(flat.reshape(-1, PLATE_WIDTH, PLATE_HEIGHT, 2))
