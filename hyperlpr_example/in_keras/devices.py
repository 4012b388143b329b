"""Where the Keras trainer runs: TensorFlow on the CPU, a GPU or a TPU, or JAX (KERAS_BACKEND=jax) on any of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from supervisor.core.errors import SetupError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_FIRST_WITH_BFLOAT16 = 8  # CUDA's compute capability of the first GPUs that have it


class Place(NamedTuple):
    """What the training runs on: ``scope()`` is where the network and its optimizer are made."""

    kind: str
    words: str
    policy: str
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext


def prepare(options: argparse.Namespace) -> Place:
    """Choose the device of --device before anything uses one, and what makes equal runs equal.

    auto is a TPU or GPU that the backend has, else the CPU.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise SetupError(
            f"the Keras trainer does not run on Keras's {backend} backend",
            hint="set KERAS_BACKEND to tensorflow or jax; for torch there is trainers/hyperlpr.py",
        )
    place = _tensorflow(options) if backend == "tensorflow" else _jax(options)
    keras.config.set_dtype_policy(place.policy)
    keras.utils.set_random_seed(options.seed)
    return place


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make one program of a function of tensors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        made: Callable[..., Any] = tf.function(function, jit_compile=True)
        return made
    import jax

    program: Callable[..., Any] = jax.jit(function)
    return program


def _tensorflow(options: argparse.Namespace) -> Place:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if options.device == "xla" or (options.device == "auto" and os.environ.get("TPU_NAME")):
        return _tensorflow_tpu()
    if options.device == "cuda" and not gpus:
        raise SetupError("TensorFlow finds no GPU on this machine", hint="leave --device out")
    if options.device == "cpu" or not gpus:
        tf.config.set_visible_devices([], "GPU")
        return Place("cpu", f"cpu, {options.threads} thread(s), float32 (TensorFlow {tf.__version__})", "float32")
    about = tf.config.experimental.get_device_details(gpus[0])
    new = about.get("compute_capability", (0, 0))[0] >= _FIRST_WITH_BFLOAT16
    policy = "mixed_bfloat16" if new else "mixed_float16"
    return Place("cuda", f"{about.get('device_name', 'GPU')}, {policy} (TensorFlow {tf.__version__})", policy)


def _tensorflow_tpu() -> Place:
    """One core of a TPU. Written as TensorFlow's documents show; no TPU was at hand to run it on."""
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        topology = tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise SetupError(
            f"TensorFlow finds no TPU: {str(error).splitlines()[0]}",
            hint="on a machine whose JAX has the TPU, set KERAS_BACKEND=jax",
        ) from error
    one_core = tf.tpu.experimental.DeviceAssignment.build(topology, num_replicas=1)
    strategy = tf.distribute.TPUStrategy(resolver, experimental_device_assignment=one_core)
    return Place("xla", f"TPU, mixed_bfloat16 (TensorFlow {tf.__version__})", "mixed_bfloat16", strategy.scope)


def _jax(options: argparse.Namespace) -> Place:
    if options.threads == 1:
        one_thread = "--xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread} --xla_gpu_deterministic_ops=true"
    import jax

    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        device = jax.devices()[0]
    except RuntimeError as error:
        raise SetupError(f"JAX finds no device: {str(error).splitlines()[0]}", hint="try --device cpu") from error
    kind = {"gpu": "cuda", "tpu": "xla"}.get(device.platform, "cpu")
    if options.device not in ("auto", kind):
        raise SetupError(f"JAX finds no such device, only {device.device_kind}", hint="leave --device out")
    policy = "float32" if kind == "cpu" else "mixed_bfloat16"
    return Place(kind, f"{device.device_kind}, {policy} (JAX {jax.__version__})", policy)
