"""Training that goes on from a checkpoint is the training that never stopped, bit for bit."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.optim import lr_scheduler  # noqa: E402

from supervisor.trainer.folder import open_folder  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]  # the first optimizer of a process takes seconds to make

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, centered=True, momentum=0.5),
    "groups": lambda p: torch.optim.Adam([{"params": list(p)[:2], "lr": 1e-3}, {"params": list(p)[2:]}], 1e-2),
}
SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 9)], [3]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)]),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, step_size_up=3, cycle_momentum=False),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
}


class Job:
    """A small training job that uses chance from every generator."""

    def __init__(self, optimizer="adamw", scheduler="cosine"):
        self.model = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.Dropout(0.3),
            torch.nn.Flatten(),
            torch.nn.Linear(16, 1),
        ).to(memory_format=torch.channels_last)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)

    def attached(self):
        return vars(self)

    def train(self, steps):
        for _ in range(steps):
            noise = torch.randn(3, 2, 4, 4) + random.random() + float(np.random.rand())  # noqa: NPY002
            loss = self.model(noise).square().mean()
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            plateau = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
            self.scheduler.step(*([loss.detach()] if plateau else []))

    def seen(self):
        tensors = [*self.model.state_dict().values()]
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return (
            [tensor.tolist() for tensor in tensors],
            [group["lr"] for group in self.optimizer.param_groups],
            random.random(),
        )


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [*((name, "cosine") for name in OPTIMIZERS), *(("sgd", name) for name in SCHEDULERS)],
)
def test_training_goes_on_bit_for_bit(stage, optimizer, scheduler):
    torch.manual_seed(1)
    whole = Job(optimizer, scheduler)
    whole.train(4)
    path = stage(**whole.attached())
    whole.train(4)
    wanted = whole.seen()

    torch.manual_seed(99)
    resumed = Job(optimizer, scheduler)
    resumed.train(1)
    state = State(resumed.attached())
    assert state.restore(open_folder(path)) == []
    assert state.put_back_rng() == []
    resumed.train(4)
    assert resumed.seen() == wanted


def test_a_generator_of_torch_may_be_attached(stage):
    generator = torch.Generator().manual_seed(5)
    path = stage(chance=generator)
    wanted = torch.rand(3, generator=generator)
    fresh = torch.Generator()
    assert State({"chance": fresh}).restore(open_folder(path)) == []
    assert torch.equal(torch.rand(3, generator=fresh), wanted)


def test_a_model_of_another_shape_is_refused_by_name(stage):
    path = stage(model=torch.nn.Linear(3, 3))
    with pytest.raises(RefusedError, match=r"^model: the checkpoint of step 5 does not fit it: RuntimeError"):
        State({"model": torch.nn.Linear(4, 3)}).restore(open_folder(path))
