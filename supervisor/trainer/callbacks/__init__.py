"""Where a framework has the loop: one file and one row here for each. A row is public as ``supervisor.NAME``.

A file imports its framework at its top and is itself imported when a script asks for the name, so that nobody needs them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

ROWS = {
    "KerasCallback": "supervisor.trainer.callbacks.keras",
    "TransformersCallback": "supervisor.trainer.callbacks.transformers",
    "AccelerateRun": "supervisor.trainer.callbacks.accelerate",
    "LightningCallback": "supervisor.trainer.callbacks.lightning",
}


def named(name: str) -> Any:
    """Return the class of that row; ImportError where its framework is absent, KeyError for no such row."""
    return getattr(import_module(ROWS[name]), name)
