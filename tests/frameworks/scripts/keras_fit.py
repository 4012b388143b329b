"""A small fit with Keras on any backend: every kind of state that it has, and what counts its reads."""

import argparse
import time

import keras
import numpy as np

import supervisor

BATCHES, BATCH = 20, 4


class Rows(keras.utils.PyDataset):
    """By index; each batch that is read is noted."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.read = x, y, []

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        self.read.append(index)
        part = slice(index * BATCH, (index + 1) * BATCH)
        return self.x[part], self.y[part]


class Paced(keras.callbacks.Callback):
    """Takes its time, because real steps do, and kills shall hit them; notes which batches it has heard of."""

    def __init__(self, wait):
        super().__init__()
        self.wait, self.heard = wait, 0

    def on_train_batch_end(self, batch, logs=None):
        self.heard += 100 * self.params["epochs"] + batch
        self.wait()


def network(policy="float32"):
    """Return a compiled model with dropout, a batch norm, metrics and weight averages."""
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("tanh"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile(optimizer=keras.optimizers.AdamW(0.01), loss="mse", metrics=["mae", "mse"])
    return model


def data_of(kind, x, y):
    """Return the arguments of ``fit`` for one kind of data, and what notes its reads."""
    if kind == "arrays":
        return {"x": x, "y": y, "batch_size": BATCH}, []
    if kind == "pydataset":
        rows = Rows(x, y)
        return {"x": rows, "shuffle": True}, rows.read
    if kind == "tfdata":
        import tensorflow as tf

        return {"x": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=3).batch(BATCH)}, []
    if kind == "loader":
        import torch

        rows = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        return {"x": torch.utils.data.DataLoader(rows, BATCH, shuffle=True)}, []
    return {"x": (pair for pair in [(x[:BATCH], y[:BATCH])] * 10_000), "steps_per_epoch": BATCHES}, []


def main():
    """Fit, and say what each epoch ended with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    parser.add_argument("--data", default="arrays")
    parser.add_argument("--policy", default="float32")
    options = parser.parse_args()
    keras.utils.set_random_seed(7)
    chance = np.random.default_rng(5)
    x = chance.normal(size=(BATCH * BATCHES, 8)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True))
    model = network(options.policy)
    callbacks = [
        supervisor.KerasCallback(),
        Paced(lambda: time.sleep(options.step_ms / 1e3)),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=100, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint("best.weights.h5", save_weights_only=True, save_best_only=True),
    ]
    arguments, read = data_of(options.data, x, y)
    history = model.fit(
        **arguments, epochs=options.steps // BATCHES, validation_data=(x[:8], y[:8]), callbacks=callbacks, verbose=2
    )
    print("history", history.epoch, history.history)
    print("read", len(read))


if __name__ == "__main__":
    main()
