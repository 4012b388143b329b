"""TensorFlow's Checkpoint, blocking and asynchronous, and Keras' BackupAndRestore, on variables of the same shapes."""

from __future__ import annotations

import os
import zlib
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import tensorflow as tf

from benchmarks.engines.engine import Engine
from benchmarks.measuring.state import MODELS

if TYPE_CHECKING:
    from pathlib import Path

MOMENTS = 2


class VariableState:
    """Variables and how a step changes them: in place, by a tensor of ones kept for each shape."""

    def __init__(self, variables: list[tf.Variable]) -> None:
        self.variables = variables
        self._deltas = {tuple(one.shape): tf.fill(one.shape, tf.constant(0.001, one.dtype)) for one in variables}

    @property
    def bytes(self) -> int:
        return sum(int(np.prod(one.shape)) * one.dtype.size for one in self.variables)

    def touch(self) -> None:
        for one in self.variables:
            one.assign_add(self._deltas[tuple(one.shape)])

    def zero(self) -> None:
        for one in self.variables:
            one.assign(tf.zeros_like(one))

    def fingerprint(self) -> list[int]:
        return [zlib.crc32(one.numpy().tobytes()) for one in self.variables]


class TensorFlowState(VariableState):
    """A module that holds parameters and moments."""

    def __init__(self, size: str) -> None:
        generator = tf.random.Generator.from_seed(1)
        self.module = tf.Module()
        self.module.kept = [
            tf.Variable(generator.normal(shape)) for shape in _shapes(size) for _ in range(1 + MOMENTS)
        ]  # fmt: skip
        super().__init__(self.module.kept)


class KerasState(VariableState):
    """A Keras model with its Adam."""

    def __init__(self, size: str) -> None:
        keras.utils.set_random_seed(1)
        layer = _Weights(_shapes(size))
        self.model = keras.Sequential([keras.Input((1,)), layer])
        self.model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
        self.model.optimizer.build(self.model.trainable_variables)
        kept = [one.value for one in (*self.model.variables, *self.model.optimizer.variables)]
        super().__init__([one for one in kept if one.dtype == tf.float32 and one.shape.rank])
        for one in self.variables:
            one.assign(tf.random.normal(one.shape))


class Checkpoint(Engine):
    """Training waits; left to the page cache."""

    version = version("tensorflow-cpu")
    state: TensorFlowState
    options = tf.train.CheckpointOptions()

    def __init__(self, state: TensorFlowState, folder: Path) -> None:
        super().__init__(state, folder)
        self._place = folder
        self._checkpoint = tf.train.Checkpoint(state=state.module)

    def save(self) -> None:
        self._place = self.next_place()
        self._checkpoint.write(str(self._place / "state"), options=self.options)

    def commit(self) -> Path:
        self._checkpoint.sync()
        return self._place

    def restore(self, checkpoint: Path) -> None:
        self._checkpoint.read(str(checkpoint / "state")).assert_consumed()


class AsyncCheckpoint(Checkpoint):
    """A thread writes; the variables are shared with it until they change."""

    options = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)


class KerasBackup(Engine):
    """The callback's own save and load, called as training calls them."""

    version = version("keras")
    state: KerasState

    def __init__(self, state: KerasState, folder: Path) -> None:
        super().__init__(state, folder)
        self._place = folder

    def save(self) -> None:
        self._place = self.next_place()
        self._callback(self._place).on_epoch_end(0)

    def commit(self) -> Path:
        return self._place

    def restore(self, checkpoint: Path) -> None:
        self._callback(checkpoint).on_train_begin()

    def _callback(self, place: Path) -> keras.callbacks.BackupAndRestore:
        callback = keras.callbacks.BackupAndRestore(str(place), delete_checkpoint=False)
        callback.set_model(self.state.model)
        return callback


class _Weights(keras.layers.Layer):
    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        self._shapes = shapes

    def build(self, _input_shape: object) -> None:
        for number, shape in enumerate(self._shapes):
            self.add_weight(shape=shape, name=f"weight{number}")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs


def _shapes(size: str) -> list[tuple[int, ...]]:
    with torch.device("meta"):
        return [tuple(parameter.shape) for parameter in MODELS[size]().parameters()]
