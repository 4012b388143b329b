"""Small fits by Lightning for its tests: data that say what was read of them, networks, loaders, and processes that fit."""

import json
from pathlib import Path

import pytest

import supervisor
from supervisor.trainer import life
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
pl = pytest.importorskip("lightning.pytorch", reason="needs Lightning: pip install lightning")
data = torch.utils.data


class Rows(data.Dataset):
    """Which samples were read, in order; reading draws a random number."""

    def __init__(self, count):
        self.count, self.reads = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        return torch.tensor([index / self.count, 1.0, float(torch.rand(()))])


class Stream(data.IterableDataset):
    """Rows that can only be read one after the other."""

    def __init__(self, count):
        self.rows = Rows(count)

    def __iter__(self):
        return (self.rows[index] for index in range(len(self.rows)))


class Remembering(data.IterableDataset):
    """Rows one after the other, from where it was."""

    def __init__(self, count):
        self.rows, self.next = Rows(count), 0

    def __iter__(self):
        while self.next < len(self.rows):
            self.next += 1
            yield self.rows[self.next - 1]
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state_dict):
        self.next = state_dict["next"]


class Net(pl.LightningModule):
    """Dropout, and a mean over the epoch."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))

    def training_step(self, batch, index):
        rows = (
            torch.cat([each for each in batch if each is not None]) if isinstance(batch, list) else batch.reshape(-1, 3)
        )
        loss = (self.layers(rows) - rows[:, :1]).square().mean()
        self.log("train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val", self.layers(batch).square().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Plateau(Net):
    """A schedule that follows what was logged."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "train_epoch"}}


class Cycle(Net):
    """A schedule made from the number of steps, for which Lightning makes the loaders early."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=int(steps))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Gan(Net):
    """Two optimizers by hand; the second collects gradients over three batches."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.other = torch.nn.Linear(3, 1)

    def training_step(self, batch, index):
        first, second = self.optimizers()
        loss = (self.layers(batch) - batch[:, :1]).square().mean()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.manual_backward((self.other(batch) - batch[:, :1]).square().mean())
        if index % 3 == 2:
            second.step()
            second.zero_grad()
        self.log("train", loss.detach(), on_step=True, on_epoch=True)

    def configure_optimizers(self):
        return [torch.optim.Adam(self.layers.parameters()), torch.optim.Adam(self.other.parameters(), lr=0.1)]


class Module(pl.LightningDataModule):
    """Has a state of its own."""

    def __init__(self, loader):
        super().__init__()
        self.loader, self.asked = loader, 0

    def train_dataloader(self):
        self.asked += 1
        return self.loader

    def state_dict(self):
        return {"old": self.asked and 3}

    def load_state_dict(self, state_dict):
        assert state_dict == {"old": 3}


def newest(place):
    return max((path for path in Path(place).iterdir() if path.name.startswith("step-")), key=lambda path: path.name)


def left(place):
    """The newest checkpoint's step and files, and the whole log."""
    manifest = json.loads((newest(place) / "checkpoint.json").read_text())
    files = {each["name"]: each["digest"] for each in manifest["files"] if each["name"] != "log.jsonl"}
    pieces = sorted(Path(place).glob("step-*/log.jsonl"))
    return manifest["step"], files, [json.loads(line) for piece in pieces for line in piece.read_text().splitlines()]


def shuffled(count=10, **options):
    def make():
        rows = Rows(count)
        return rows, data.DataLoader(rows, **({"batch_size": 2, "shuffle": True} | options))

    return make


def weighted():
    rows = Rows(10)
    sampler = data.WeightedRandomSampler(torch.arange(1.0, 11.0), 10)
    return rows, data.DataLoader(rows, 2, sampler=sampler)


def with_generator():
    rows = Rows(10)
    sampler = data.RandomSampler(rows, replacement=True, generator=torch.Generator().manual_seed(1))
    return rows, data.DataLoader(rows, 2, sampler=sampler, generator=torch.Generator().manual_seed(2))


def single():
    rows = Rows(5)
    return rows, data.DataLoader(rows, None, shuffle=True)


def two_loaders(mode):
    def make():
        rows = Rows(10)
        short = data.DataLoader(Rows(4), 2, shuffle=True)
        from_two = [data.DataLoader(rows, 2, shuffle=True), short]
        return rows, pl.utilities.CombinedLoader(from_two, mode)

    return make


def stream():
    rows = Stream(10)
    return rows.rows, data.DataLoader(rows, 2)


def stateful(**options):
    def make():
        torchdata = pytest.importorskip(
            "torchdata.stateful_dataloader", reason="needs torchdata: pip install torchdata"
        )
        rows = Rows(10)
        return rows, torchdata.StatefulDataLoader(rows, 2, shuffle=True, **options)

    return make


def stateful_stream():
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="needs torchdata: pip install torchdata")
    rows = Remembering(10)
    return rows.rows, torchdata.StatefulDataLoader(rows, 2)


def in_module():
    rows = Rows(10)
    return rows, Module(data.DataLoader(rows, 2, shuffle=True))


def fitted(folder, place, make, stop_at=None, *, module=Net, loaders=True, callbacks=list, **options):
    """Fit as a process of its own would, up to a step; return what it read and its trainer."""
    environ = {"SUPERVISOR_RUN_STAGING": str(folder / place)}
    if stop_at is not None:
        environ["SUPERVISOR_RUN_STOP_AT"] = str(stop_at)
    life._here[:] = [Life(read_settings(environ, "train.py"))]
    pl.seed_everything(3, verbose=False)
    rows, train = make()
    trainer = pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        callbacks=[supervisor.LightningCallback(), *callbacks()],
        **{"max_epochs": 3, "logger": False, "enable_checkpointing": False, **options},
    )  # fmt: skip
    val = data.DataLoader(Rows(4), 2) if loaders else None
    try:
        trainer.fit(module(), *([train, val] if loaders else []), datamodule=None if loaders else train)
    except SystemExit as ended:
        if stop_at is None or ended.code:
            raise
    life.here().run.flush()
    return rows, trainer
