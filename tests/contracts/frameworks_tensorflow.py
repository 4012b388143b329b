"""The row of TensorFlow: tensors and variables, and the objects that a script without Keras trains with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tests.contracts.frameworks import FLOATS, INTS, ML_FLOATS, Arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


class TensorFlow(Arrays):
    row, needs = "tensorflow", "tensorflow"
    environ: ClassVar[dict[str, str]] = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    dtypes = (*INTS, *FLOATS, *ML_FLOATS, "bool", "complex64", "complex128", "int4", "uint4")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import tensorflow as tf

        return tf.constant(of)

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        return value.numpy()

    def values(self) -> dict[str, Any]:
        import tensorflow as tf

        found = super().values()
        variables = {f"variable-{name}": tf.Variable(value) for name, value in found.items() if "cube" in name}
        grows = tf.Variable([1.0, 2.0], shape=tf.TensorShape([None]))
        grows.assign([1.0, 2.0, 3.0])
        return (
            found
            | variables
            | {"grows": grows, "words": tf.constant([[b"a\0b", "字"]]), "none": tf.constant([], tf.string)}
        )

    def form(self, value: Any) -> list[Any]:
        return [value.dtype.name, list(value.numpy().shape)]

    def bits(self, value: Any) -> bytes:
        import tensorflow as tf

        return repr(value.numpy().tolist()).encode() if value.dtype == tf.string else self.raw(value).tobytes()

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        import tensorflow as tf

        value = tf.Variable(tf.range(1000.0))
        return value, lambda: value.assign(-tf.ones(1000))

    def refused(self) -> dict[str, Any]:
        import tensorflow as tf

        seen = []
        tf.function(lambda: seen.append(tf.ones(2)))()
        generated = tf.data.Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int32))
        return {
            "resource": tf.Variable(1.0).handle,
            "symbolic": seen[0],
            "ragged": tf.ragged.constant([[1], []]),
            "ds": generated,
        }

    def objects(self, seed: int) -> dict[str, Any]:
        import tensorflow as tf

        tf.random.set_seed(seed)
        module = tf.Module()
        module.layers = [tf.Variable(tf.random.normal((3, 4))), {"bias": tf.Variable(tf.zeros(4))}]
        table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        table.insert(["a"], [seed])
        numbers = tf.data.Dataset.range(50).shuffle(9, seed=5).map(lambda each: each * 2).repeat().batch(4).prefetch(2)
        iterator = iter(numbers)
        for _ in range(seed):
            next(iterator)
        return {
            "checkpoint": tf.train.Checkpoint(net=module, step=tf.Variable(seed, dtype=tf.int64), table=table),
            "module": module,
            "generator": tf.random.Generator.from_seed(seed),
            "data": iterator,
        }

    def use(self, objects: dict[str, Any]) -> str:
        import tensorflow as tf

        weights, bias = objects["module"].layers[0], objects["module"].layers[1]["bias"]
        seen = b""
        for _ in range(3):
            batch = next(objects["data"])
            with tf.GradientTape() as tape:
                x = objects["generator"].normal((4, 3)) * tf.cast(batch[:, None], tf.float32)
                loss = tf.reduce_mean((x @ weights + bias) ** 2)
            for variable, gradient in zip((weights, bias), tape.gradient(loss, (weights, bias)), strict=True):
                variable.assign_sub(1e-4 * gradient)
            objects["checkpoint"].step.assign_add(1)
            seen += batch.numpy().tobytes()
        table = objects["checkpoint"].table.lookup(tf.constant(["a", "b"])).numpy().tolist()
        return (seen + self.bits(weights) + self.bits(bias)).hex() + f" {objects['checkpoint'].step.numpy()} {table}"

    def draw(self) -> str:
        import tensorflow as tf

        return self.bits(tf.random.normal((3,))).hex() + self.bits(tf.random.get_global_generator().normal((3,))).hex()
