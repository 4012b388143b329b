"""A loop of its own with a Keras model, on any backend: mixed precision with a loss scale, a schedule, dropout's seeds."""

import argparse
import time

import keras
import numpy as np

import supervisor
from supervisor.trainer.order import Order

EPOCH, BATCH = 20, 4


def main() -> None:
    """Train for the steps still to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    parser.add_argument("--policy", default="mixed_float16")
    options = parser.parse_args()
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy(options.policy)
    chance = np.random.default_rng(5)
    x = chance.normal(size=(EPOCH * BATCH, 8)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)), "mse")
    model.optimizer.build(model.trainable_variables)  # so that what a checkpoint holds is there before the first step
    order = Order(length=len(x), seed=3)
    run = supervisor.attach(model=model, optimizer=model.optimizer, data=order)
    for _ in run.steps(options.steps, epoch_steps=EPOCH):
        rows = [next(order) for _ in range(BATCH)]
        run.log(loss=model.train_on_batch(x[rows], y[rows]))
        model.reset_metrics()
        time.sleep(options.step_ms / 1000)


if __name__ == "__main__":
    main()
