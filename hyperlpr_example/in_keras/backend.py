"""Which backend Keras is to have; it asks once, when it is first imported."""

from __future__ import annotations

import importlib.util
import os


def choose_backend() -> None:
    """TensorFlow where it is, else JAX (Colab's TPU machines have that alone), unless KERAS_BACKEND says otherwise."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if importlib.util.find_spec("tensorflow") else "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # because TensorFlow says much that is of no use here
