"""TensorFlow: variables and eager tensors of every dtype, the global seed's draws, and whatever lies in an object graph.

A variable comes back as its value, because a new variable would be none that a traced function or an optimizer knows.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from supervisor.trainer.frameworks import arrays, tensorflow_graph
from supervisor.trainer.frameworks.framework import Framework, Target
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from supervisor.trainer.frameworks.framework import Scalar, StateAccess
    from supervisor.trainer.leaf import Leaf

_COUNTING = {
    "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal",
    "RandomShuffle", "Multinomial", "RandomGamma", "RandomPoisson", "RandomPoissonV2", "SampleDistortedBoundingBoxV2",
}  # fmt: skip  # operations that count their draws where nobody can see it


class TensorFlow(Framework):
    """The port's methods for this framework. Devices are not started for the sake of a question."""

    name = "tensorflow"

    def __init__(self) -> None:
        self._looked_into: dict[str, bool] = {}  # traced functions by name: whether they draw with hidden counters

    def describe(self) -> tuple[str, str]:
        gpus = tf.config.list_logical_devices("GPU") if _is_started() else []
        if not gpus:
            return f"tensorflow {tf.__version__}", "cpu"
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return f"tensorflow {tf.__version__}", details.get("device_name", "GPU")

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        if isinstance(value, tf.Variable):
            return self._keep(value, _shape(value), path, "Variable")
        if isinstance(value, tf.Tensor):
            if not hasattr(value, "numpy"):
                raise RefusedError(path, "a symbolic tensor cannot be kept in a checkpoint", "keep values, not graphs")
            return self._keep(value, tuple(value.shape), path, "Tensor")
        if isinstance(value, tf.DType):
            return {TAG: "tensorflow.DType", "name": value.name}, None
        if isinstance(value, tf.TensorShape):
            dims = None if value.rank is None else value.as_list()
            return {TAG: "tensorflow.TensorShape", "dims": dims}, None
        return None

    def token(self, value: Any) -> Hashable:
        if isinstance(value, tf.Variable):
            return True, _shape(value), value.dtype, value.device
        return (False, value.shape, value.dtype, value.device) if isinstance(value, tf.Tensor) else None

    def address(self, value: Any) -> Hashable:
        return id(value)  # no two variables share memory, and a tensor never changes

    def read(self, value: Any, first: int, out: memoryview) -> None:
        tensor = _read(value) if isinstance(value, tf.Variable) else value
        item_bytes = np.dtype(tensor.dtype.as_numpy_dtype).itemsize
        if not _is_on_host(tensor) and first % item_bytes == len(out) % item_bytes == 0:
            # only these travel: large values are asked for in many parts
            tensor = tf.reshape(tensor, [-1])[first // item_bytes : (first + len(out)) // item_bytes]
            first = 0
        arrays.copy_bytes(tensor._numpy(), first, out)  # noqa: SLF001  # without the copy that numpy() makes

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:
        assert live is None, "no owner of these says that its state is its memory"
        device = "CPU:0" if on_host else _here(node["device"])

        def finish(array: np.ndarray[Any, Any]) -> Any:
            with tf.init_scope(), tf.device(device):
                return tf.constant(array)

        return arrays.target(arrays.dtype_named(node["dtype"]), node["shape"], size, finish)

    def give(self, node: dict[str, Any]) -> Any:
        kind = node[TAG].removeprefix("tensorflow.")
        if kind == "DType":
            return tf.as_dtype(node["name"])
        if kind == "TensorShape":
            return tf.TensorShape(node["dims"])
        words = [binascii.a2b_base64(each) for each in node["words"]]
        return tf.reshape(tf.constant(words, tf.string), node["shape"])

    def access(self, value: Any) -> StateAccess | None:
        return tensorflow_graph.access(value)

    def places_itself(self, owner: Any) -> bool:
        return tensorflow_graph.access(owner) is not None

    def rng_state(self) -> Any:
        state = context.context()
        seed = state._seed  # noqa: SLF001  # there is no public way to ask for it
        generator = stateful_random_ops.global_generator
        return {
            "seed": None if seed is None else int(seed),
            "draws": None if seed is None else state._rng.getstate(),  # noqa: SLF001  # as above
            "generator": None if generator is None else [int(generator.algorithm), *generator.state.numpy().tolist()],
            "hidden": self._drawing_functions(),
        }

    def set_rng_state(self, state: Any) -> str | None:
        if state["seed"] is not None:
            tf.random.set_seed(state["seed"])
            context.context()._rng.setstate(state["draws"])  # noqa: SLF001  # as in rng_state
        if state["generator"] is not None:
            algorithm, *numbers = state["generator"]
            _set_global_generator(algorithm, numbers)
        if state["hidden"]:
            return (
                f"tf.random operations inside {', '.join(state['hidden'])} count their draws where nobody can read it: "
                "from here on they draw other numbers than without the interruption; tf.random.Generator, "
                "tf.random.stateless_… and keras.random come back exactly"
            )
        return None

    def logged(self, value: Any) -> Any:
        if isinstance(value, tf.Variable) and value.shape.num_elements() == 1:
            return value.read_value()
        if isinstance(value, tf.Tensor) and hasattr(value, "numpy") and value.shape.num_elements() == 1:
            return value  # it never changes
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        return [tensor.numpy().item() for tensor in kept]

    def is_device_oom(self, error: BaseException) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def _keep(self, value: Any, shape: tuple[int, ...], path: str, kind: str) -> tuple[dict[str, Any], Leaf | None]:
        if value.dtype == tf.string:
            return _words(value, shape), None
        if value.dtype in {tf.resource, tf.variant} or value.dtype.is_quantized:
            name = value.dtype.name
            raise RefusedError(
                path, f"a tensor of dtype {name} cannot be kept in a checkpoint", "keep what it was made of"
            )
        dtype = np.dtype(value.dtype.as_numpy_dtype)
        node = {TAG: f"tensorflow.{kind}", "dtype": dtype.name, "shape": list(shape), "device": _short(value.device)}
        return node, arrays.leaf(self, dtype, shape, self.address(value))

    def _drawing_functions(self) -> list[str]:
        """Return the names of traced functions with random operations whose counters cannot be read."""
        if not _is_started():
            return []
        found = []
        for name in context.context().list_function_names():
            if name.startswith("__wrapped__"):
                continue  # an operation outside of all functions, whose seed comes from the draws above
            if name not in self._looked_into:
                nodes = context.context().get_function_def(name).node_def
                self._looked_into[name] = any(node.op in _COUNTING for node in nodes)
            if self._looked_into[name]:
                found.append(_spoken(name))
        return sorted(set(found))


def _words(value: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    flat = np.asarray(value.numpy(), dtype=object).reshape(-1)
    words = [binascii.b2a_base64(each, newline=False).decode() for each in flat]
    return {TAG: "tensorflow.strings", "shape": list(shape), "words": words}


def _read(variable: Any) -> Any:
    """Return the present value, which shares the variable's memory until that changes."""
    if isinstance(variable, BaseResourceVariable):
        return tf.raw_ops.ReadVariableOp(
            resource=variable.handle, dtype=variable.dtype
        )  # a fifth of read_value()'s time
    return variable.read_value()  # one on several devices


def _shape(variable: Any) -> tuple[int, ...]:
    """Return the present shape; a variable may be declared with dimensions that change."""
    shape = variable.shape
    return tuple(shape if shape.is_fully_defined() else _read(variable).shape)


def _is_started() -> bool:
    """Say whether TensorFlow uses its devices yet: asking it for more would take all the memory of a GPU."""
    return context.context()._context_handle is not None  # noqa: SLF001  # there is no public way to ask


def _is_on_host(tensor: Any) -> bool:
    return ":CPU:" in tensor.device.upper() or not tensor.device


def _short(device: str) -> str:
    """Return "GPU:0" for "/job:localhost/replica:0/task:0/device:GPU:0"."""
    return device.rpartition("device:")[2] or "CPU:0"


def _here(device: str) -> str:
    """Return the device if this machine has it, else the CPU."""
    return device if device in {_short(each.name) for each in tf.config.list_logical_devices()} else "CPU:0"


def _spoken(function: str) -> str:
    """Return "train_step" for "__inference_train_step_1234"."""
    return re.sub(r"^__(inference|forward|backward)_+|_\d+$", "", function)


def _set_global_generator(algorithm: int, numbers: list[int]) -> None:
    """Set it in place where there is one: traced functions hold its variable."""
    generator = stateful_random_ops.global_generator
    if generator is None or int(generator.algorithm) != algorithm:
        tf.random.set_global_generator(tf.random.Generator.from_state(numbers, algorithm))
    else:
        generator.state.assign(tf.constant(numbers, generator.state.dtype))
