"""A TensorFlow loop of one's own as the guide on training checkpoints shows it: ``tf.function``, a ``CheckpointManager``."""

import argparse
import time

import numpy as np
import tensorflow as tf


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--folder", default="./tf_ckpts")
    args = parser.parse_args()
    tf.keras.utils.set_random_seed(1)
    net = tf.keras.Sequential(
        [tf.keras.layers.Input((8,)), tf.keras.layers.Dense(16, "relu"), tf.keras.layers.Dense(1)]
    )
    opt = tf.keras.optimizers.Adam(0.01)
    opt.build(net.trainable_variables)
    ckpt = tf.train.Checkpoint(step=tf.Variable(0), optimizer=opt, net=net)
    manager = tf.train.CheckpointManager(ckpt, args.folder, max_to_keep=3)

    @tf.function
    def train_step(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(net(images, training=True) - labels))
        opt.apply_gradients(zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables, strict=True))
        return loss

    ckpt.restore(manager.latest_checkpoint)
    print(f"Restored from {manager.latest_checkpoint}" if manager.latest_checkpoint else "Initializing from scratch.")
    while int(ckpt.step) < args.steps:
        images = np.random.default_rng(int(ckpt.step)).normal(size=(16, 8)).astype("float32")
        loss = train_step(images, images.sum(axis=1, keepdims=True))
        time.sleep(args.step_ms / 1000)
        ckpt.step.assign_add(1)
        if int(ckpt.step) % 10 == 0:
            manager.save()
            print(f"step {int(ckpt.step)}, loss {float(loss):.4f}")
    np.save("final.npy", np.concatenate([value.ravel() for value in net.get_weights()]))


if __name__ == "__main__":
    main()
