"""A fit under a distribution strategy on one device, with the callback or as nobody changed it."""

import argparse

import keras
import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--callback", action="store_true")
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()
keras.utils.set_random_seed(7)
x = np.random.default_rng(5).normal(size=(24, 4)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))
with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
callbacks = []
if options.callback:
    import supervisor

    callbacks.append(supervisor.KerasCallback())
model.fit(x, y, batch_size=4, epochs=options.epochs, verbose=0, callbacks=callbacks)
model.save_weights("final.weights.h5")
print("steps done", int(model.optimizer.iterations.numpy()))
