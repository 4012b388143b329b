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


_FRAMEWORKS = {
    "KerasCallback": "keras",
    "TransformersCallback": "transformers",
    "AccelerateRun": "accelerate",
    "LightningCallback": "lightning",
}


def named(name: str) -> Any:
    """Return the class of that row; ImportError where its framework is absent, KeyError for no such row.

    Raises SetupError for a version of the framework that is known not to work, before anything of it is touched.
    """
    from supervisor.trainer import life, versions

    versions.check([_FRAMEWORKS[name]], life.here().warn)
    return getattr(import_module(ROWS[name]), name)
