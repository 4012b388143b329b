"""The job in HF's Trainer, with save_steps and resume_from_checkpoint=True as its documentation shows."""

from __future__ import annotations

import shutil
from typing import Any

import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from benchmarks.lives.job import BATCH, EPOCH_STEPS, Ledger, told
from benchmarks.lives.torch_model import adam, network, samples

job = told()
ledger = Ledger(job)


class Network(torch.nn.Module):
    """The network, with its loss inside as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.network(features)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Samples(Dataset):
    """The samples in their order."""

    def __init__(self) -> None:
        self._of = samples()

    def __len__(self) -> int:
        return EPOCH_STEPS * BATCH

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"features": self._of[0][index], "labels": self._of[1][index]}


class InOrder(Trainer):
    """Without the shuffle, so that it is the same job as the others'."""

    seen = 0.0

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **named)
        self.seen = loss.item()
        return loss


class Kept(TrainerCallback):
    """Keeps the ledger."""

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        ledger.begin()

    def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        ledger.end(state.global_step - 1, trainer.seen)


job.store.mkdir(parents=True, exist_ok=True)
for _ in range(job.skip):  # a person takes a checkpoint away that does not load
    newest = get_last_checkpoint(str(job.store))
    if newest is not None:
        shutil.rmtree(newest)
model = Network()
optimizer = adam(model)
arguments = TrainingArguments(
    output_dir=str(job.store), max_steps=job.steps, per_device_train_batch_size=BATCH, save_strategy="steps",
    save_steps=job.every, save_total_limit=3, logging_strategy="no", report_to="none", use_cpu=True, max_grad_norm=0.0,
    disable_tqdm=True,
)  # fmt: skip
constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
trainer = InOrder(
    model=model, args=arguments, train_dataset=Samples(), optimizers=(optimizer, constant), callbacks=[Kept()]
)
trainer.train(resume_from_checkpoint=True if get_last_checkpoint(str(job.store)) else None)
