"""A Lightning script as its documentation shows: LightningCLI over a module and its data; ``fit --ckpt_path`` goes on."""

import time

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(LightningModule):
    def __init__(self, hidden: int = 32, step_ms: float = 10.0):
        super().__init__()
        self.step_ms = step_ms
        self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = self.loss(self.net(images), labels)
        self.log("train_loss", loss)
        time.sleep(self.step_ms / 1000)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val_loss", self.loss(self.net(images), labels))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def on_fit_end(self):
        torch.save(self.state_dict(), "final.pt")


class Digits(LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        images = torch.randn(640, 64, generator=torch.Generator().manual_seed(0))
        self.digits = TensorDataset(images, images[:, :10].argmax(dim=1))

    def train_dataloader(self):
        return DataLoader(self.digits, batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(self.digits, batch_size=128)


if __name__ == "__main__":
    LightningCLI(Classifier, Digits, seed_everything_default=1)
