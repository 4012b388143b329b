# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "tensorflow>=2.16",
#   "keras>=3.8",
#   "numpy>=1.26",
#   "pillow>=10.3",
#   "manimgx-fonts-cjk",
#   "fontpkg-barlow-semi-condensed",
# ]
# ///
"""Train HyperLPR's plate recogniser in Keras 3: the network, plates, weights and options of hyperlpr.py, on TensorFlow or JAX.

python3 -m supervisor start trainers/hyperlpr_keras.py                                             from scratch, half width
python3 -m supervisor start trainers/hyperlpr_keras.py --name published -- --init published        from HyperLPR's own weights
KERAS_BACKEND=jax python trainers/hyperlpr_keras.py                                               on JAX, for example on a TPU

A machine without TensorFlow is given it first: 1.9 GB on the disk.
"""

# ruff: noqa: E402  because Keras asks for its backend when it is imported
from __future__ import annotations

import sys
from pathlib import Path

# Nothing need be installed for this file to run from a checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hyperlpr_example.in_keras.backend import choose_backend
from hyperlpr_example.options import before_imports, read_options

if __name__ == "__main__":
    before_imports("keras", "numpy", "PIL")

choose_backend()

import keras

import supervisor
from hyperlpr_example import training
from hyperlpr_example.batches import ahead
from hyperlpr_example.in_keras import devices
from hyperlpr_example.in_keras.batches import Batches
from hyperlpr_example.in_keras.ctc import ctc_loss
from hyperlpr_example.in_keras.network import load_layers, segmentation_free
from hyperlpr_example.in_keras.reading import reader_of
from hyperlpr_example.published import published_layers


def main() -> None:
    """Find the plates, build the network, train it, judge it."""
    options = read_options()
    place = devices.prepare(options)
    print(f"device: {place.words}", flush=True)
    found = training.find_plates(options)
    data = found.learned
    batches = Batches(data)

    with place.scope():
        network = segmentation_free(options.width)
        optimizer = keras.optimizers.AdamW(
            options.lr, training.WEIGHT_DECAY, epsilon=1e-8, global_clipnorm=training.GRADIENT_NORM_MAX
        )
        if place.policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(network.trainable_variables)
        network.compile(optimizer, ctc_loss)
    run = supervisor.attach(model=network, optimizer=optimizer, data=data)
    if options.init == "published" and not run.resumed:
        load_layers(network, published_layers())

    report = training.Report(options, run, found, reader_of(network))
    # batches.batch(N) is always the same: the step number is the position in the data, so resuming skips nothing.
    for step, batch in ahead(batches.batch, run.steps(options.steps, data.epoch_steps)):
        optimizer.learning_rate = options.lr * training.warm_up_then_cosine(step / options.steps)
        network.reset_metrics()  # because the loss that train_on_batch returns is the mean since then
        loss = network.train_on_batch(batch.pictures, batch.classes)

        run.log(loss=float(loss), lr=float(optimizer.learning_rate))
        report.step_done(step, loss)
    report.end()


if __name__ == "__main__":
    training.as_script(main)
