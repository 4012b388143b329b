"""A small fit with Lightning: every kind of state that it has, and what counts its reads."""

import argparse
import logging
import time
import warnings

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

import supervisor

BATCHES, BATCH = 20, 4


class Rows(Dataset):
    """Each sample is of its own, and each read is counted and noisy."""

    def __init__(self, count):
        self.x = torch.randn(count, 8, generator=torch.Generator().manual_seed(5))
        self.reads = 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.reads += 1
        x = self.x[index]
        return x + 0.01 * torch.randn(8), x.sum().sin()


class Net(LightningModule):
    """Dropout, a batch norm, means over the epoch in both of Lightning's ways."""

    def __init__(self, step_ms, optimizer):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(16, 1),
        )
        self.mean = MeanMetric()

    def training_step(self, batch, _index):
        time.sleep(self.hparams.step_ms / 1e3)  # because real steps take time, and kills shall hit them
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layers(x).squeeze(1), y)
        self.mean(loss.detach())
        self.log("seen", self.mean, on_step=False, on_epoch=True)
        self.log("train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, _index):
        x, y = batch
        self.log("val", torch.nn.functional.mse_loss(self.layers(x).squeeze(1), y))

    def configure_optimizers(self):
        optimizer = self.hparams.optimizer(self.parameters(), lr=0.01)
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=int(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Ends(Callback):
    """Notes what each epoch ended with."""

    def __init__(self):
        self.means = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.means.append([float(trainer.callback_metrics[name]) for name in ("train_epoch", "seen", "val")])

    def state_dict(self):
        return {"means": [list(each) for each in self.means]}

    def load_state_dict(self, state_dict):
        self.means = [list(each) for each in state_dict["means"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    parser.add_argument("--files", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    seed_everything(7)
    callbacks = [
        supervisor.LightningCallback(),
        Ends(),
        EarlyStopping("val", patience=100),
        *([ModelCheckpoint("kept", monitor="val", save_top_k=2)] if options.files else []),
    ]
    trainer = Trainer(
        enable_checkpointing=options.files,
        accelerator="cpu", max_epochs=options.steps // BATCHES, callbacks=callbacks, logger=False,
        enable_progress_bar=False, enable_model_summary=False, val_check_interval=0.5,
    )  # fmt: skip
    rows = Rows(BATCH * BATCHES)
    fit, val = DataLoader(rows, BATCH, shuffle=True), DataLoader(Rows(8), BATCH)
    trainer.fit(Net(options.step_ms, torch.optim.AdamW), fit, val)
    for means in callbacks[1].means:
        print(*means)


if __name__ == "__main__":
    main()
