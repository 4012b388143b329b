"""The job in Keras, with BackupAndRestore at the end of each epoch and its second checkpoint kept."""

from __future__ import annotations

import os
import shutil
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tensorflow as tf

from benchmarks.lives.job import BATCH, CLASSES, DEPTH, EPOCH_STEPS, FEATURES, RATE, SEED, WIDTH, Ledger, told

job = told()
ledger = Ledger(job)


class Kept(keras.callbacks.Callback):
    """Keeps the ledger; the loss that Keras reports is the mean since the epoch began."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  # Keras calls it so
        self.epoch = epoch

    def on_train_batch_begin(self, _batch: int, logs: Any = None) -> None:  # noqa: ARG002  # Keras calls it so
        ledger.begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        ledger.end(self.epoch * EPOCH_STEPS + batch, logs["loss"])


tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
keras.utils.set_random_seed(SEED)
chance = np.random.default_rng(SEED)
count = EPOCH_STEPS * BATCH
features = chance.standard_normal((count, FEATURES), dtype=np.float32)
labels = chance.integers(0, CLASSES, count)
model = keras.Sequential([
    keras.Input((FEATURES,)), keras.layers.Dense(WIDTH, "relu"), keras.layers.Dense(DEPTH, "relu"),
    keras.layers.Dense(CLASSES),
])  # fmt: skip
model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
if job.skip:  # a person takes a backup away that does not load
    shutil.rmtree(job.store, ignore_errors=True)
backup = keras.callbacks.BackupAndRestore(
    str(job.store), save_freq="epoch" if job.every == EPOCH_STEPS else job.every, double_checkpoint=True
)
model.fit(
    features, labels, batch_size=BATCH, epochs=-(-job.steps // EPOCH_STEPS), shuffle=False, verbose=0,
    callbacks=[Kept(), backup],
)  # fmt: skip
