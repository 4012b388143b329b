"""A Keras script as its guide on saving shows: ``fit`` with ModelCheckpoint, and BackupAndRestore to go on after a break."""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers


class Pause(keras.callbacks.Callback):
    """Makes a step of so small a network last."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--step-ms", type=float, default=10.0)
    args = parser.parse_args()
    keras.utils.set_random_seed(7)
    images = np.random.default_rng(0).normal(size=(640, 64)).astype("float32")
    labels = images[:, :10].argmax(axis=1)
    model = keras.Sequential(
        [
            layers.Input((64,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        images,
        labels,
        batch_size=32,
        epochs=args.epochs,
        shuffle=False,
        validation_split=0.1,
        verbose=2,
        callbacks=[
            keras.callbacks.ModelCheckpoint("saved/model-{epoch:02d}.keras"),
            keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False),
            Pause(args.step_ms / 1000),
        ],
    )
    model.save("final.keras")
    np.savez("final.npz", *model.get_weights())


if __name__ == "__main__":
    main()
