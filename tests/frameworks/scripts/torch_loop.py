"""A small network in a loop of its own: a DataLoader with a shuffle, dropout, AdamW and a schedule."""

import argparse
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

import supervisor

BATCHES, BATCH = 20, 4


def main() -> None:
    """Train for the epochs still to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    options = parser.parse_args()
    torch.manual_seed(7)
    inputs = torch.randn(BATCHES * BATCH, 8, generator=torch.Generator().manual_seed(5))
    loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), BATCH, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    run = supervisor.attach(model=model, optimizer=optimizer, scheduler=scheduler, data=loader)
    for _ in run.epochs(options.steps // BATCHES):
        for batch, targets in loader:
            loss = (model(batch) - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            run.log(loss=loss)
            time.sleep(options.step_ms / 1000)


if __name__ == "__main__":
    main()
