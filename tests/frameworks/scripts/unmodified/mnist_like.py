"""A plain PyTorch script, after the ImageNet and MNIST examples of its documentation: it saves and resumes by itself."""
# ruff: noqa: N812, NPY002, PTH103, PTH118, because it is written as the framework's own examples are

import argparse
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(self.dropout(x)), dim=1)


def digits(seed, count):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 64, generator=generator)
    return TensorDataset(images, images[:, :10].argmax(dim=1))


def train(args, model, loader, optimizer, epoch):
    model.train()
    for batch, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        time.sleep(args.step_ms / 1000)
        if batch % 10 == 0:
            print(f"Train Epoch: {epoch} [{batch}/{len(loader)}]\tLoss: {loss.item():.6f}")


def test(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            correct += (model(data).argmax(dim=1) == target).sum().item()
    print(f"Test set: accuracy {correct}/{len(loader.dataset)}")


def main():
    parser = argparse.ArgumentParser(description="PyTorch MNIST-like example")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument("--output", default="models")
    parser.add_argument("--resume", default="", help="path to the latest checkpoint")
    args = parser.parse_args()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    train_loader = DataLoader(digits(0, 640), batch_size=32, shuffle=True)
    test_loader = DataLoader(digits(1, 128), batch_size=64)
    start_epoch = 0
    if args.resume:
        checkpoint = torch.load(args.resume, weights_only=True)
        start_epoch = checkpoint["epoch"]
        model.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        torch.set_rng_state(checkpoint["rng"])
        print(f"=> loaded checkpoint '{args.resume}' (epoch {start_epoch})")
    os.makedirs(args.output, exist_ok=True)
    for epoch in range(start_epoch, args.epochs):
        train(args, model, train_loader, optimizer, epoch)
        test(model, test_loader)
        scheduler.step()
        torch.save(
            {
                "epoch": epoch + 1,
                "state_dict": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": torch.get_rng_state(),
            },
            os.path.join(args.output, f"checkpoint-{epoch + 1}.pt"),
        )
    torch.save(model.state_dict(), "final.pt")


if __name__ == "__main__":
    main()
