"""The frameworks whose values a checkpoint can hold: one file and one row here for each.

A framework is asked only when the script has imported it itself, so that a script without any starts at once.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from supervisor.core.hardware import DEVICE, FRAMEWORK

if TYPE_CHECKING:
    from supervisor.trainer.frameworks.framework import Framework

# What sits on another comes before it: Keras's objects are TensorFlow's too, and all of them take arrays.
ROWS = {
    "torch": "supervisor.trainer.frameworks.torch:Torch",
    "keras": "supervisor.trainer.frameworks.keras:Keras",
    "tensorflow": "supervisor.trainer.frameworks.tensorflow:TensorFlow",
    "jax": "supervisor.trainer.frameworks.jax:Jax",
    "numpy": "supervisor.trainer.frameworks.numpy:NumPy",
    "plain": "supervisor.trainer.frameworks.plain:Plain",
}


def loaded() -> list[Framework]:
    """Return the frameworks that this process has imported; plain Python is always the last."""
    return [named(name) for name in ROWS if name == "plain" or name in sys.modules]


@cache
def named(name: str) -> Framework:
    """Return the framework of that row, importing it; KeyError for no such row, ImportError where it is absent."""
    module, _, kind = ROWS[name].partition(":")
    return cast("Framework", getattr(import_module(module), kind)())


def described(frameworks: list[Framework]) -> dict[str, str]:
    """Return the name and version of the first framework and its device, as ``core.hardware`` names them."""
    name, device = frameworks[0].describe()
    return {FRAMEWORK: name, DEVICE: device, **frameworks[0].describe_device()}
