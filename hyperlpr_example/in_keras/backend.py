"""Chooses Keras's backend. Keras reads the choice once, at its first import."""

from __future__ import annotations

import importlib.util
import os


def choose_backend() -> None:
    """Choose TensorFlow if it is installed, else JAX (the only one on Colab's TPU machines).

    KERAS_BACKEND overrides it.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if importlib.util.find_spec("tensorflow") else "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # because TensorFlow says much that is of no use here
