"""Single TensorFlow objects with a state, as they hang on the attributes of others: variables, generators, tables, modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from supervisor.trainer.frameworks import tensorflow_graph

if TYPE_CHECKING:
    from supervisor.trainer.frameworks.framework import StateAccess

_TABLES = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)


def access(value: Any) -> StateAccess | None:
    """Return (get, set) of such an object; None for others. A variable keeps its place."""
    if isinstance(value, tf.Variable):
        return (lambda: value), value.assign
    if isinstance(value, (tf.random.Generator, tf.Module, tf.train.Checkpoint, *_TABLES)):
        return tensorflow_graph.access(value)
    return None


def kind(value: Any) -> str:
    """Return what it is called in a checkpoint."""
    return "tf.Variable" if isinstance(value, tf.Variable) else type(value).__name__
