"""A script with our callback, or unchanged under --attach auto: after a death it ends with the best model of an undisturbed run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(600)]

WAIT_S_MAX = 300.0
QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
WAITS = """
import pathlib, time
def wait(step):
    print("done", step, flush=True)
    while step == 20 and not pathlib.Path("go").exists():
        time.sleep(0.01)
"""
# The loss is to be as high as it can be, so that the first checkpoint is the best one to the end.
TRANSFORMERS = """
from tests.frameworks.scripts import transformers_trainer as tiny
import transformers, supervisor
class Waits(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        wait(state.global_step)
trainer = tiny.trainer_of(
    tiny.options(["--steps", "24"]), [Waits(), supervisor.TransformersCallback()], save_strategy="steps", save_steps=4,
    eval_steps=4, load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True, LIMIT
)
trainer.train()
print("final", sum(float(each.double().sum()) for each in trainer.model.parameters()), trainer.state.best_model_checkpoint)
"""
LIGHTNING = """
import torch, lightning.pytorch as pl, supervisor
pl.seed_everything(3, verbose=False)
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        wait(self.global_step)
        return self.layer(batch).square().mean()
    def validation_step(self, batch, index):
        self.log("val", self.layer(batch).square().mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)
rows = torch.utils.data.DataLoader(torch.randn(48, 4), 12)
best = pl.callbacks.ModelCheckpoint("models", monitor="val", mode="max")
trainer = pl.Trainer(max_epochs=6, callbacks=[best, supervisor.LightningCallback()], logger=False, accelerator="cpu",
                     enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Net(), rows, rows)
loaded = torch.load(best.best_model_path, weights_only=True)["state_dict"]
print("final", sum(float(each.double().sum()) for each in loaded.values()), best.best_model_path.rpartition("/")[2])
"""
KERAS = """
import keras, numpy as np, supervisor
keras.utils.set_random_seed(3)
class Waits(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        wait(int(self.model.optimizer.iterations))
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", run_eagerly=True)
x = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
best = keras.callbacks.ModelCheckpoint("models/best.keras", monitor="val_loss", mode="max", save_best_only=True)
lines = keras.callbacks.CSVLogger("lines.csv")
model.fit(x, x[:, :1], batch_size=8, epochs=6, verbose=0, validation_data=(x, x[:, :1]),
          callbacks=[best, lines, Waits(), supervisor.KerasCallback()])
loaded = keras.models.load_model("models/best.keras")
print("final", sum(float(np.sum(each, dtype="float64")) for each in loaded.get_weights()), "models/best.keras")
"""
SCRIPTS = {
    "transformers, one kept": ("transformers", TRANSFORMERS.replace("LIMIT", "save_total_limit=1")),
    "transformers, all kept": ("transformers", TRANSFORMERS.replace("LIMIT", "")),
    "lightning": ("lightning", LIGHTNING),
    "keras": ("keras", KERAS),
}
CALLBACKS = ("supervisor.TransformersCallback()", "supervisor.LightningCallback()", "supervisor.KerasCallback()")


def final(turn) -> str:
    return next(line for line in turn.text.splitlines() if line.startswith("final"))


def safe(store: Path) -> list[int]:
    return [int(each.parent.name.removeprefix("step-")) for each in store.glob("train/*/step-*/manifest-*")]


def unchanged(source: str) -> str:
    """Return the script as its author wrote it: without a word of ours."""
    for word in CALLBACKS:
        source = source.replace(f", {word}", "")
    source = source.replace(", supervisor", "")
    assert "supervisor" not in source
    return source


CASES = [(name, ()) for name in SCRIPTS] + [(name, ("--attach", "auto")) for name in SCRIPTS if "all" not in name]


@pytest.mark.parametrize(("name", "attach"), CASES, ids=[" ".join([name, *attach]) for name, attach in CASES])
def test_the_best_model_is_the_same_as_without_a_death(name: str, attach: tuple[str, ...], tmp_path: Path) -> None:
    package, source = SCRIPTS[name]
    source = unchanged(source) if attach else source
    pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
    script = tmp_path / "train.py"
    script.write_text(WAITS + source)
    store = tmp_path / "store"

    def started(machine: Machine, *options: str):
        return machine.start(script, "--no-install", "--save-every", "3steps", *attach, *options, environ=QUIET)

    alone = Machine(tmp_path / "alone", store)
    (alone.work / "go").touch()
    whole = started(alone, "--name", "alone")
    assert whole.wait(WAIT_S_MAX) == 0, whole.text
    first = Machine(tmp_path / "first", store)
    turn = started(first)
    turn.until(lambda: "done 20" in turn.text and any(step >= 12 for step in safe(store)), WAIT_S_MAX)
    turn.kill("both")
    second = Machine(tmp_path / "second", store)
    (second.work / "go").touch()
    resumed = started(second)
    assert resumed.wait(WAIT_S_MAX) == 0, resumed.text
    assert "going on from step" in resumed.text
    assert final(resumed) == final(whole)
