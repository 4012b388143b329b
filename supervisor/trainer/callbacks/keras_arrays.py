"""Arrays in batches, as Keras's own adapter cuts them, in an order that is a pure function of (seed, pass, batch)."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from keras.src import tree
from keras.src.trainers.data_adapters import array_slicing

if TYPE_CHECKING:
    from collections.abc import Iterator

    Indices = np.ndarray[Any, Any]


def shuffled(length: int, *seeds: int) -> Indices:
    """Return the numbers under ``length`` in an order that follows from the seeds, with every version of NumPy."""
    return np.random.RandomState(list(seeds)).permutation(length)  # the stream that never changes


class Order:
    """Of one pass over an adapter's samples."""

    def __init__(self, adapter: Any, seed: int, passes: int) -> None:
        self.size, self._batch = adapter._size, adapter._batch_size
        self._samples, self._shuffle = adapter._num_samples, adapter._shuffle
        self._seeds = seed, passes
        every = self._shuffle and self._shuffle != "batch"
        self.all: Indices | None = shuffled(self._samples, *self._seeds) if every else None

    def __getitem__(self, batch: int) -> Indices | slice:
        start, stop = batch * self._batch, min((batch + 1) * self._batch, self._samples)
        if self.all is not None:
            some: Indices = self.all[start:stop]
            return some
        if self._shuffle:
            within: Indices = shuffled(stop - start, *self._seeds, batch) + start
            return within
        return slice(start, stop)

    def rows(self) -> Indices:
        """Return the numbers of all samples in this order."""
        if self.all is not None:
            return self.all
        if self._shuffle:
            return np.concatenate([self[batch] for batch in range(self.size)])
        return np.arange(self._samples)


def batches(adapter: Any, order: Order, first: int, backend: str) -> Iterator[Any]:
    """Yield the batches from ``first`` on, in the backend's values."""
    inputs = array_slicing.convert_to_sliceable(adapter._inputs, target_backend=backend)
    convert = _converter(backend)
    for batch in range(first, order.size):
        indices = order[batch]
        yield tree.map_structure(lambda each, at=indices: convert(each, each[at]), inputs, none_is_leaf=False)


def dataset(adapter: Any, order: Order, first: int) -> Any:
    """Return the tf.data.Dataset of the batches from ``first`` on, made as Keras makes its own.

    Where all batches are full, their size is part of the shape, as with Keras. The shape decides how TensorFlow optimizes
    the step: with an unknown size it may drop the order between the read of a weight and its update.
    """
    import tensorflow as tf

    inputs = tree.lists_to_tuples(array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow"))
    size = adapter._batch_size
    rows = tf.data.Dataset.from_tensors(order.rows()[first * size :]).unbatch()
    rows = rows.batch(size, drop_remainder=adapter._num_samples % size == 0)

    def taken(indices: Any, data: Any) -> Any:
        def one(each: Any) -> Any:
            if isinstance(each, array_slicing.TensorflowSparseWrapper):
                return array_slicing.slice_tensorflow_sparse_wrapper(each, indices)
            if isinstance(each, list | tuple | dict):
                return None
            return tf.gather(each, indices, axis=0) if tf.is_tensor(each) else each

        return tree.traverse(one, data)

    made = tf.data.Dataset.zip((rows, tf.data.Dataset.from_tensors(inputs).repeat()))
    made = made.map(taken, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return made.with_options(options).prefetch(tf.data.AUTOTUNE)


def _converter(backend: str) -> Any:
    if backend == "torch":
        from keras.src.backend.torch.core import convert_to_tensor

        return lambda sliceable, rows: convert_to_tensor(sliceable.convert_to_torch_compatible(rows))
    if backend == "jax":
        return lambda sliceable, rows: sliceable.convert_to_jax_compatible(rows)
    return lambda sliceable, rows: sliceable.convert_to_numpy(rows)
