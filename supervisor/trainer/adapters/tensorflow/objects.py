"""Single stateful TensorFlow objects on attributes of others: variables, generators, tables, modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from supervisor.trainer.adapters.tensorflow import graph as tensorflow_graph

if TYPE_CHECKING:
    from supervisor.trainer.adapters.port import StateAccess

_TABLES = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)


def state_access(value: Any) -> StateAccess | None:
    """Return (get, set) of such an object; None for others. A variable stays in place."""
    if isinstance(value, tf.Variable):
        return (lambda: value), value.assign
    if isinstance(value, (tf.random.Generator, tf.Module, tf.train.Checkpoint, *_TABLES)):
        return tensorflow_graph.state_access(value)
    return None


def kind(value: Any) -> str:
    """Return its name in a checkpoint."""
    return "tf.Variable" if isinstance(value, tf.Variable) else type(value).__name__
