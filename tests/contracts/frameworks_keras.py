"""The rows of Keras 3, one for each backend: the same objects, whatever computes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tests.contracts.frameworks import INTS, ML_FLOATS, Arrays

if TYPE_CHECKING:
    from collections.abc import Callable


class Keras(Arrays):
    """What the backends share. ``takes``: modules that the backend brings with it."""

    row = "keras"
    dtypes = (*INTS, "float16", "float32", "float64", *ML_FLOATS, "bool", "complex64")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        import keras

        made = {}
        for name, value in super().values().items():
            dtype = name.partition("-")[0]
            made[name] = keras.Variable(value, dtype=dtype, trainable="float" in dtype)
        return made

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        import keras

        return np.asarray(keras.ops.convert_to_numpy(value))

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        import keras

        value = keras.Variable(np.arange(1000, dtype="float32"))
        return value, lambda: value.assign(-np.ones(1000, "float32"))

    def refused(self) -> dict[str, Any]:
        import keras

        return {"layer": keras.layers.Dense(3), "symbolic": keras.Input((2,))}

    def objects(self, seed: int) -> dict[str, Any]:
        import keras

        seeded(seed)
        layers = [
            keras.layers.Dense(4, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
        ]
        model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
        rate = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.9)
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(rate), dynamic_growth_steps=2)
        stopping = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
        plateau = keras.callbacks.ReduceLROnPlateau(patience=2)
        metric = keras.metrics.Mean()
        for callback in (stopping, plateau):
            callback.set_model(model)
        if seed == 1:  # as in a run; the new process has not used its optimizer yet
            optimizer.build(model.trainable_variables)
            stopping.on_train_begin()
            plateau.on_train_begin()
        tied = keras.Sequential([model.layers[0], model.layers[1]])
        return {
            "model": model, "optimizer": optimizer, "stopping": stopping, "plateau": plateau, "metric": metric,
            "seeds": keras.random.SeedGenerator(seed), "tied": tied, "momentum": keras.optimizers.SGD(0.1, 0.9),
        }  # fmt: skip

    def use(self, objects: dict[str, Any]) -> str:
        import keras

        model, optimizer = objects["model"], objects["optimizer"]
        for step in range(3):
            x = keras.random.normal((4, 3), seed=objects["seeds"])
            loss, gradients = self.gradients(model, x, optimizer)
            self.apply(optimizer, gradients, model.trainable_variables)
            objects["metric"].update_state(loss)
            objects["stopping"].on_epoch_end(step, {"val_loss": float(loss)})
        self.apply(objects["momentum"], gradients, model.trainable_variables)
        held = [*model.variables, *optimizer.variables, *objects["momentum"].variables, *objects["metric"].variables]
        remembered = [objects["stopping"].wait, objects["stopping"].best, objects["plateau"].best]
        best = b"".join(each.tobytes() for each in objects["stopping"].best_weights or [])
        return "".join(self.bits(each).hex() for each in held) + f"{remembered} {best.hex()}"

    def gradients(self, model: Any, x: Any, optimizer: Any) -> tuple[Any, list[Any]]:
        raise NotImplementedError

    def apply(self, optimizer: Any, gradients: list[Any], trained: list[Any]) -> None:
        optimizer.apply(gradients, trained)

    def draw(self) -> str:
        import keras

        return np.asarray(keras.ops.convert_to_numpy(keras.random.normal((3,)))).tobytes().hex()


class KerasOnTensorFlow(Keras):
    needs = "keras tensorflow"
    environ: ClassVar[dict[str, str]] = {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import tensorflow as tf

        return tf.constant(of)

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        return (value.value if hasattr(value, "value") else value).numpy()

    def gradients(self, model: Any, x: Any, optimizer: Any) -> tuple[Any, list[Any]]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(tf.reduce_mean(model(x, training=True) ** 2))
        return loss, tape.gradient(loss, model.trainable_variables)


class KerasOnTorch(Keras):
    needs = "keras torch"
    environ: ClassVar[dict[str, str]] = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}
    dtypes = ("int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", *ML_FLOATS, "bool")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import torch

        whole = torch.frombuffer(bytearray(of.tobytes() or b"\0" * 16), dtype=getattr(torch, of.dtype.name))
        return whole[: of.size].view(of.shape).clone()

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        import torch

        tensor = value.value if hasattr(value, "value") else value
        return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()

    def form(self, value: Any) -> list[Any]:
        tensor = value.value if hasattr(value, "value") else value
        return [str(tensor.dtype), list(tensor.shape)]

    def gradients(self, model: Any, x: Any, optimizer: Any) -> tuple[Any, list[Any]]:
        for each in model.trainable_variables:
            each.value.grad = None
        loss = optimizer.scale_loss((model(x, training=True) ** 2).mean())
        loss.backward()
        return loss.detach(), [each.value.grad for each in model.trainable_variables]


class KerasOnJax(Keras):
    needs = "keras jax"
    environ: ClassVar[dict[str, str]] = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    dtypes = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", *ML_FLOATS, "bool")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import jax

        return jax.device_put(of)

    def gradients(self, model: Any, x: Any, optimizer: Any) -> tuple[Any, list[Any]]:
        import jax

        def loss_of(trained: list[Any], held: list[Any]) -> tuple[Any, list[Any]]:
            out, held = model.stateless_call(trained, held, x, training=True)
            return optimizer.scale_loss((out**2).mean()), held

        trained = [each.value for each in model.trainable_variables]
        held = [each.value for each in model.non_trainable_variables]
        (loss, held), found = jax.value_and_grad(loss_of, has_aux=True)(trained, held)
        for variable, value in zip(model.non_trainable_variables, held, strict=True):
            variable.assign(value)
        return loss, found

    def apply(self, optimizer: Any, gradients: list[Any], trained: list[Any]) -> None:
        if not optimizer.built:
            optimizer.build(trained)
        held = optimizer.variables  # what changes in a jitted function must be put in and got out
        found = optimizer.stateless_apply([each.value for each in held], gradients, [each.value for each in trained])
        for variable, value in zip([*trained, *held], [*found[0], *found[1]], strict=True):
            variable.assign(value)


def seeded(seed: int) -> None:
    """As keras.utils.set_random_seed(), which imports TensorFlow wherever it is installed."""
    from keras.src.backend.common.global_state import set_global_attribute
    from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, SeedGenerator

    random.seed(seed)
    set_global_attribute(GLOBAL_SEED_GENERATOR, SeedGenerator(seed))
