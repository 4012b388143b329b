"""attach() in a Keras script's own loop: a run that was cut off and goes on in a new process is the run that never stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.trainer.compare import differing, differing_generators
from supervisor.trainer.folder import open_folder, read
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.state import State

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytestmark = [
    pytest.mark.slow,  # importing Keras and its backend takes seconds
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own
]
keras = pytest.importorskip("keras", reason="needs Keras: pip install keras")
ROOT = Path(__file__).parents[3]
WAIT_S = 400
LOOP = """
import os, sys
import keras, numpy as np, tensorflow as tf
import supervisor
keras.utils.set_random_seed(int(sys.argv[1]))
model = keras.Sequential([
    keras.layers.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization(),
    keras.layers.Dropout(0.3), keras.layers.Dense(1)])
rate = keras.optimizers.schedules.CosineDecay(1e-2, 20)
optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(rate), dynamic_growth_steps=3)
mean = keras.metrics.Mean()
stopping = keras.callbacks.EarlyStopping(patience=100)
stopping.set_model(model)
stopping.on_train_begin()
data = iter(tf.data.Dataset.range(1000).shuffle(50, seed=1).batch(4))
run = supervisor.attach(model=model, optimizer=optimizer, mean=mean, stopping=stopping, data=data)

@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = optimizer.scale_loss(tf.reduce_mean((model(x, training=True) - y) ** 2))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss

for index in run.steps(12):
    y = tf.cast(next(data), tf.float32)[:, None] / 1000
    x = y * tf.ones((4, 6)) + 0.1 * tf.random.normal((4, 6)) + 0.1 * keras.random.normal((4, 6))
    mean.update_state(step(x, y))
    stopping.on_epoch_end(index, {"val_loss": float(mean.result())})
    run.log(loss=mean.result())
    if "cut" in sys.argv and index == 4:
        run.save()
    if "cut" in sys.argv and index == 5:
        run.flush()
    if "cut" in sys.argv and index == 6:
        os._exit(9)
"""


def played(folder, *arguments, code=LOOP, backend="tensorflow"):
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(code)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    environ = {**os.environ, **threads, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_a_loop_with_tf_function_dropout_and_loss_scale_goes_on_bit_for_bit(tmp_path):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")
    assert played(tmp_path / "whole", "3").returncode == 0
    assert played(tmp_path / "cut", "3", "cut").returncode == 9
    resumed = played(tmp_path / "cut", "4")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after step 5" in resumed.stderr
    assert "warning" not in resumed.stderr.lower().replace("warning: all log messages", "")
    whole, cut = (
        open_folder(next((tmp_path / name / "checkpoints" / "train").glob("step-000000012-*")))
        for name in ("whole", "cut")
    )
    assert differing(whole, cut) == []
    assert differing_generators(whole.rng, cut.rng) == []


OTHER_BACKEND = """
import json, sys
import keras
from supervisor.trainer.folder import open_folder
from supervisor.trainer.state import State
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="one"), keras.layers.Dropout(0.5)], name="net")
optimizer = keras.optimizers.Adam()
state = State({"model": model, "optimizer": optimizer})
words = state.restore(open_folder(sys.argv[1])) + state.put_back_rng()
held = [*model.variables, *optimizer.variables]
print(json.dumps([words, [[each.path, keras.ops.convert_to_numpy(each).astype("float64").tolist()] for each in held]]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_may_change_its_backend(stage, tmp_path, backend):
    pytest.importorskip(backend, reason=f"needs {backend}: pip install {backend}")
    layers = [keras.layers.Dense(4, name="one"), keras.layers.Dropout(0.5, seed=3)]
    model = keras.Sequential([keras.Input((3,)), *layers], name="net")
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    for number, variable in enumerate(optimizer.variables):
        variable.assign(keras.ops.full(variable.shape, number, variable.dtype))
    keras.random.normal((1,))
    path = stage(model=model, optimizer=optimizer)
    done = played(tmp_path / "other", str(path), code=OTHER_BACKEND, backend=backend)
    assert done.returncode == 0, done.stderr
    words, found = json.loads(done.stdout.splitlines()[-1])
    held = [*model.variables, *optimizer.variables]
    assert [each for _, each in found] == [keras.ops.convert_to_numpy(each).astype("float64").tolist() for each in held]
    assert len(words) <= 1  # that integers are of another width there


def net(*sizes, width=3):
    return keras.Sequential([keras.Input((width,)), *(keras.layers.Dense(size) for size in sizes)])


def restored(path, **attached):
    return State(attached).restore(open_folder(path))


def values(held):
    return [keras.ops.convert_to_numpy(each).tolist() for each in held.variables]


def test_a_model_made_again_in_one_process_fits_though_keras_names_it_otherwise(stage):
    model = net(2, 4)
    path = stage(model=model)
    again = net(2, 4)
    assert [each.path for each in again.variables] != [each.path for each in model.variables]
    state = State({"model": again})
    assert state.restore(open_folder(path)) == []
    assert values(again) == values(model)
    assert state.captured().objects.keys() == {"model"}
    assert list(state.captured().objects["model"]) == [each.path for each in model.variables], "the run's names stay"


def test_a_model_of_another_form_is_refused_by_the_variable(stage):
    path = stage(model=net(2, 4))
    with pytest.raises(RefusedError, match=r"model: the checkpoint of step 5 does not fit it: .* where here is"):
        restored(path, model=net(2, 5))


def test_a_model_without_variables_yet_is_told_what_to_do(stage):
    path = stage(model=net(2))
    with pytest.raises(RefusedError, match=r"no variables yet: create all variables before supervisor.attach\(\)"):
        restored(path, model=keras.Sequential([keras.layers.Dense(2)]))


def test_two_optimizers_that_were_not_used_yet_find_each_its_own_model(stage):
    def made():
        both = {"maker": net(2), "critic": net(4, 1)}
        return both | {f"of_{name}": keras.optimizers.Adam() for name in both}

    first = made()
    for name in ("maker", "critic"):
        first[f"of_{name}"].build(first[name].trainable_variables)
        first[f"of_{name}"].variables[-1].assign_add(keras.ops.ones(first[f"of_{name}"].variables[-1].shape))
    second = made()
    assert restored(stage(**first), **second) == []
    assert {name: values(each) for name, each in second.items()} == {name: values(each) for name, each in first.items()}


def test_an_optimizer_whose_variables_nobody_knows_is_refused_with_what_to_do(stage):
    optimizer = keras.optimizers.Adam()
    optimizer.build(net(1, 1, 1, 1, 1).trainable_variables)  # as many as no other model here has
    path = stage(optimizer=optimizer)
    with pytest.raises(RefusedError, match=r"attach its model beside it, or call optimizer.build"):
        restored(path, optimizer=keras.optimizers.Adam())


def test_a_callback_keeps_what_it_remembers_and_not_what_it_works_with(stage):
    class Counting(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen, self.when, self.file = {"a": [1, 2.5]}, (1, None), sys.stderr

    def made():
        model = net(2)
        both = {
            "stopping": keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
            "best": keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
            "own": Counting(),
        }
        for callback in both.values():
            callback.set_model(model)
            callback.set_params({"epochs": 3})
        return both

    first = made()
    first["stopping"].on_train_begin()
    for epoch, loss in enumerate((3.0, 1.0, 2.0)):
        first["stopping"].on_epoch_end(epoch, {"val_loss": loss})
    first["best"].best = 0.25
    first["own"].seen["a"].append(3)
    path = stage(**first)
    second = made()
    assert restored(path, **second) == []
    assert (second["stopping"].best, second["stopping"].wait, second["stopping"].best_epoch) == (1.0, 1, 1)
    assert [each.tolist() for each in second["stopping"].best_weights] == [
        each.tolist() for each in first["stopping"].best_weights
    ]
    assert second["best"].best == 0.25
    assert second["own"].seen == {"a": [1, 2.5, 3]}
    assert {"model", "params", "file", "monitor_op"}.isdisjoint(
        read(path)["own"].keys() | read(path)["stopping"].keys()
    )
