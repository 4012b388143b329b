"""Callbacks for frameworks that own the loop.

A file imports its framework at its top, and is imported only when a script uses its name. So no script needs them all.

- ``accelerate``: Accelerate
- ``best_files``: the best checkpoint that a callback names
- ``dataloader``: resume in the middle of a DataLoader epoch
- ``keras``: Keras fit()
- ``lightning``: Lightning
- ``transformers``: transformers' Trainer
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

ROWS = {
    "KerasCallback": "supervisor.trainer.loops.keras.callback",
    "TransformersCallback": "supervisor.trainer.loops.transformers.callback",
    "AccelerateRun": "supervisor.trainer.loops.accelerate",
    "LightningCallback": "supervisor.trainer.loops.lightning.callback",
}


_FRAMEWORKS = {
    "KerasCallback": "keras",
    "TransformersCallback": "transformers",
    "AccelerateRun": "accelerate",
    "LightningCallback": "lightning",
}


def named(name: str) -> Any:
    """Return the class of that row; ImportError if its framework is absent, KeyError for no such row.

    Raises SetupError for a version of the framework that is known not to work, before anything of it is used.
    """
    from supervisor.trainer import context as trainer_context
    from supervisor.trainer.process import version_check

    version_check.check([_FRAMEWORKS[name]], trainer_context.current().warn)
    return getattr(import_module(ROWS[name]), name)
