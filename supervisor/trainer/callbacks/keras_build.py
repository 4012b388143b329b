"""Have all variables of a fit made before they are put back: with TensorFlow, Keras makes them in the first step only."""

# ruff: noqa: SLF001  # because how Keras makes a step is in its own fields and nowhere else

from __future__ import annotations

from typing import Any

import keras

from supervisor.trainer.refused import RefusedError


def build(model: Any, iterator: Any) -> None:
    """Make them as Keras does, or, for a model that has no ``call()``, by tracing its step; RefusedError if neither can."""
    if keras.backend.backend() != "tensorflow" or model._distribute_strategy is not None:
        return  # there Keras itself has done it

    import tensorflow as tf

    spec = iterator._distributed_dataset.element_spec
    empty = keras.tree.map_structure(lambda each: None if isinstance(each, tf.OptionalSpec) else each, spec)
    try:
        model._symbolic_build(data_batch=empty)
    except Exception as error:  # noqa: BLE001  # whatever a model lacks that has no forward pass of its own
        _trace(model, empty, error)


def _trace(model: Any, batch: Any, built: Exception) -> None:
    """Trace one step without doing it: the layers and optimizers that it uses are built in this."""
    import tensorflow as tf

    try:
        tf.function(model.train_step).get_concrete_function(batch)
    except Exception as error:  # noqa: BLE001  # as above: it is refused in words
        name = type(model).__name__
        first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RefusedError(
            "model",
            f"the variables of {name} cannot be made before its first step, so they could not be put back: {first_line}",
            f"call {name}.build(input_shape) or its layers once before fit(), or train without supervisor.KerasCallback",
        ) from (error if error.__cause__ is None else built)
