"""The job in torch: a small network with Adam, samples that follow from a seed, and nothing else that is drawn."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.lives.job import BATCH, CLASSES, DEPTH, EPOCH_STEPS, FEATURES, RATE, SEED, WIDTH

torch.set_num_threads(1)


def network() -> nn.Sequential:
    """Return the network, the same at every call."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, DEPTH), nn.ReLU(), nn.Linear(DEPTH, CLASSES)
    )


def adam(model: nn.Module) -> torch.optim.Adam:
    """Return the optimizer."""
    return torch.optim.Adam(model.parameters(), lr=RATE)


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return one epoch of samples in their order, the same in every epoch."""
    chance = torch.Generator().manual_seed(SEED)
    count = EPOCH_STEPS * BATCH
    return torch.randn(count, FEATURES, generator=chance), torch.randint(0, CLASSES, (count,), generator=chance)


def batch(of: tuple[torch.Tensor, torch.Tensor], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the batch of a step."""
    begin = step % EPOCH_STEPS * BATCH
    return of[0][begin : begin + BATCH], of[1][begin : begin + BATCH]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, of: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Do one step; return its loss."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(of[0]), of[1])
    loss.backward()
    optimizer.step()
    return loss.item()
