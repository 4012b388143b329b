"""The job in Lightning, with ModelCheckpoint(save_last=True) and fit(ckpt_path="last") as its documentation shows."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.lives.job import BATCH, Ledger, told
from benchmarks.lives.torch_model import adam, network, samples

job = told()
ledger = Ledger(job)


class Module(pl.LightningModule):
    """The network and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, of: list[torch.Tensor], _index: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.network(of[0]), of[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adam(self)


class Kept(pl.Callback):
    """Keeps the ledger."""

    def on_train_batch_start(self, *_: Any) -> None:
        ledger.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: Any, outputs: Any, *_: Any) -> None:
        ledger.end(trainer.global_step - 1, outputs["loss"].item())


def main() -> None:
    """Train; a person whose last.ckpt does not load names the newest of the others."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # By steps, because at an epoch's end (its default) 2.6.6 saves a state from which it trains one batch too many.
    saving = ModelCheckpoint(
        dirpath=job.store, save_last=True, save_top_k=2, monitor="step", mode="max", every_n_train_steps=job.every
    )
    trainer = pl.Trainer(
        max_steps=job.steps, max_epochs=-1, accelerator="cpu", devices=1, logger=False, callbacks=[Kept(), saving],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=job.ledger.parent,
    )  # fmt: skip
    loader = DataLoader(TensorDataset(*samples()), batch_size=BATCH)
    others = sorted(job.store.glob("epoch=*.ckpt"), key=lambda path: int(path.stem.rpartition("step=")[2]))[::-1]
    from_where = "last" if not job.skip else str(others[job.skip - 1]) if len(others) >= job.skip else None
    trainer.fit(Module(), loader, ckpt_path=from_where, weights_only=True)


main()
