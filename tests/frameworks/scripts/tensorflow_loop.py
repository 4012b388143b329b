"""A loop of its own in TensorFlow without Keras: a `tf.train.Checkpoint`, a generator, and a shuffled pipeline under way."""

import argparse
import time

import tensorflow as tf

import supervisor

EPOCH, BATCH = 20, 4


class Network(tf.Module):
    """Two layers and their momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [tf.Variable(tf.random.normal((8, 16))), tf.Variable(tf.random.normal((16, 1)))]
        self.momentum = [tf.Variable(tf.zeros_like(each)) for each in self.weights]

    @tf.function
    def train(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            hidden = tf.nn.experimental.stateless_dropout(tf.tanh(x @ self.weights[0]), 0.2, seed=seed)
            loss = tf.reduce_mean((hidden @ self.weights[1] - tf.reduce_sum(x, 1, keepdims=True)) ** 2)
        for weight, momentum, gradient in zip(
            self.weights, self.momentum, tape.gradient(loss, self.weights), strict=True
        ):
            momentum.assign(0.9 * momentum + gradient)
            weight.assign_sub(1e-3 * momentum)
        return loss


def main() -> None:
    """Train for the steps still to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0)
    options = parser.parse_args()
    tf.random.set_seed(7)
    network, chance = Network(), tf.random.Generator.from_seed(5)
    rows = tf.random.stateless_normal((EPOCH * BATCH, 8), seed=(1, 2))
    batches = iter(tf.data.Dataset.from_tensor_slices(rows).shuffle(EPOCH * BATCH, seed=3).batch(BATCH).repeat())
    run = supervisor.attach(model=tf.train.Checkpoint(network=network), chance=chance, data=batches)
    for _ in run.steps(options.steps, epoch_steps=EPOCH):
        run.log(loss=network.train(next(batches), chance.make_seeds()[:, 0]))
        time.sleep(options.step_ms / 1000)


if __name__ == "__main__":
    main()
