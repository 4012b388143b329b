"""The files that a framework's own callbacks name in their state: the best model so far must be there after a resume.

``load_best_model_at_end`` and ``ModelCheckpoint`` remember a path. Their state goes back with the checkpoint; the file that
the path names goes with it, through ``Run.companions``.
"""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FIELD = re.compile(r"\{[^{}]*\}")


def of_transformers(trainer: Any) -> list[str]:
    """Return the folder of the Trainer's best checkpoint, which ``load_best_model_at_end`` loads when training is over."""
    best = trainer.state.best_model_checkpoint
    return [best] if best else []


def of_lightning(trainer: Any) -> list[str]:
    """Return the paths that each ModelCheckpoint remembers: the best ones and the last one."""
    found: dict[str, None] = {}
    for callback in getattr(trainer, "checkpoint_callbacks", ()):
        remembered = [getattr(callback, name, "") for name in ("best_model_path", "last_model_path")]
        for path in [*remembered, *getattr(callback, "best_k_models", {})]:
            if path:
                found[os.fspath(path)] = None
    return list(found)


def of_keras(callbacks: Iterable[Any]) -> list[str]:
    """Return the files of each ModelCheckpoint (``{epoch}`` in a path stands for all) and of each CSVLogger."""
    return list(dict.fromkeys(_named_by_keras(callbacks)))


def _named_by_keras(callbacks: Iterable[Any]) -> Iterator[str]:
    for callback in callbacks:
        kinds = {kind.__name__ for kind in type(callback).__mro__}
        if "ModelCheckpoint" in kinds:
            pattern = _FIELD.sub("*", glob.escape(os.fspath(callback.filepath)))
            yield from sorted(glob.glob(pattern))  # noqa: PTH207  # the pattern may be absolute
        elif "CSVLogger" in kinds:
            yield os.fspath(callback.filename)
