"""A small network in a loop written with Accelerate: gradients over two batches, noise drawn while data are read."""

import argparse
import time

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed

import supervisor

SIZE, BATCH = 8, 4


class Samples(torch.utils.data.Dataset):
    """Each sample is its own, with noise from torch's generator; ``reads`` counts how many were read."""

    def __init__(self, count: int) -> None:
        self.values = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(1))
        self.reads = 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.reads += 1
        return self.values[index] + 0.1 * torch.randn(SIZE), self.values[index].sum()[None]


class Best:
    """The lowest mean loss of an epoch: state of the script's own."""

    def __init__(self) -> None:
        self.loss, self.epochs = float("inf"), 0

    def see(self, loss: float) -> None:
        self.loss, self.epochs = min(self.loss, loss), self.epochs + 1

    def state_dict(self) -> dict:
        return {"loss": self.loss, "epochs": self.epochs}

    def load_state_dict(self, state: dict) -> None:
        self.loss, self.epochs = state["loss"], state["epochs"]


def trained(options: argparse.Namespace) -> tuple:
    set_seed(3)
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=options.accumulate, mixed_precision="bf16" if options.bf16 else "no",
        dataloader_config=DataLoaderConfiguration(use_stateful_dataloader=options.stateful),
    )  # fmt: skip
    samples = Samples((options.steps // 3) * options.accumulate * BATCH - 5)
    model = torch.nn.Sequential(
        torch.nn.Linear(SIZE, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=options.steps + 3)
    loader = torch.utils.data.DataLoader(samples, BATCH, shuffle=True, num_workers=options.workers)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    best = Best()
    accelerator.register_for_checkpointing(best)
    run = supervisor.AccelerateRun(accelerator, loader)
    for _, batches in run.epochs(3):
        losses = torch.zeros(())
        for values, sums in batches:
            with accelerator.accumulate(model):
                loss = torch.nn.functional.mse_loss(model(values), sums)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            time.sleep(options.step_ms / 1000 / options.accumulate)
            run.log(loss=loss, rate=scheduler.get_last_lr()[0])
        with run.section("eval"), torch.no_grad():
            model.eval()
            losses = torch.nn.functional.mse_loss(model(samples.values[:8]), samples.values[:8].sum(1, keepdim=True))
            model.train()
        best.see(float(losses))
        run.log(eval_loss=losses, best=best.loss)
    return run, samples, best


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0.0)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--stateful", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    trained(options())
