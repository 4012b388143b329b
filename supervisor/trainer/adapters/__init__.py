"""One adapter per framework whose values a checkpoint can hold.

A framework is asked only when the script has imported it itself, so that a script without any starts at once.

- ``arrays``: what array frameworks share
- ``device_changes``: sentences on what differs when a run resumes on other hardware
- ``jax``: JAX
- ``keras``: Keras 3 on any backend
- ``numpy``: NumPy
- ``plain``: plain Python
- ``port``: the adapter protocol, and the description of a tensor
- ``tensorflow``: TensorFlow
- ``torch``: PyTorch
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from supervisor.trainer.adapters.device_changes import DEVICE, FRAMEWORK

if TYPE_CHECKING:
    from supervisor.trainer.adapters.port import FrameworkAdapter

# What sits on another comes before it: Keras's objects are TensorFlow's too, and all of them take arrays.
ROWS = {
    "torch": "supervisor.trainer.adapters.torch.adapter:Torch",
    "keras": "supervisor.trainer.adapters.keras.adapter:Keras",
    "tensorflow": "supervisor.trainer.adapters.tensorflow.adapter:TensorFlow",
    "jax": "supervisor.trainer.adapters.jax.adapter:Jax",
    "numpy": "supervisor.trainer.adapters.numpy:NumPy",
    "plain": "supervisor.trainer.adapters.plain:Plain",
}


def loaded() -> list[FrameworkAdapter]:
    """Return the frameworks that this process has imported; plain Python is always the last."""
    return [named(name) for name in ROWS if name == "plain" or name in sys.modules]


@cache
def named(name: str) -> FrameworkAdapter:
    """Return the framework of that row, importing it; KeyError for no such row, ImportError where it is absent."""
    module, _, kind = ROWS[name].partition(":")
    return cast("FrameworkAdapter", getattr(import_module(module), kind)())


def described(frameworks: list[FrameworkAdapter]) -> dict[str, str]:
    """Return the name and version of the first framework and its device, as ``device_changes`` names them."""
    name, device = frameworks[0].describe()
    return {FRAMEWORK: name, DEVICE: device, **frameworks[0].describe_device()}
