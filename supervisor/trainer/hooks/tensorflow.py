"""TensorFlow's own checkpoints: the files of ``tf.train.Checkpoint``, of a manager, and saved models.

Steps of a loop written with ``tf.function`` cannot be counted as they are done: what it runs is a graph, which no function of
Python sees. So the steps are told by each save, from the optimizer that is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.keras import number_of
from supervisor.trainer.hooks.saves import count_before, tell_after

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached


def install(tensorflow: ModuleType, script: Unattached) -> None:
    """Follow what writes checkpoints."""
    train = tensorflow.train
    tell_after(script, train.CheckpointManager, "save", lambda _, given: [given["self"].directory])
    tell_after(script, train.Checkpoint, "save", _files)
    tell_after(script, train.Checkpoint, "write", _files)
    tell_after(script, tensorflow.saved_model, "save", lambda _, given: [given["export_dir"]])

    def steps_in(saves: Any) -> int | None:
        return _iterations(getattr(saves, "checkpoint", saves)) if tensorflow.executing_eagerly() else None

    for owner, name in ((train.CheckpointManager, "save"), (train.Checkpoint, "save"), (train.Checkpoint, "write")):
        count_before(script, owner, name, steps_in)


def _iterations(checkpoint: Any) -> int | None:
    """Return the steps of the optimizer in a checkpoint, or in a model in it; of several, of the one that did most."""
    parts = list(checkpoint._trackable_children().values())  # noqa: SLF001  # what it saves, by no public name
    owners = [*parts, *(getattr(part, "optimizer", None) for part in parts)]
    return max((number_of(owner.iterations) for owner in owners if hasattr(owner, "iterations")), default=None)


def _files(prefix: Any, given: dict[str, Any]) -> list[str]:
    """Return the files of one checkpoint; the one that says which is the newest lies beside them."""
    head = Path(prefix if isinstance(prefix, str) else str(prefix.numpy(), "utf-8"))
    newest = Path(given["file_prefix"]).parent / "checkpoint"
    files = [
        each for each in head.parent.iterdir() if each.name.startswith((f"{head.name}.data-", f"{head.name}.index"))
    ]
    return [str(each) for each in [*sorted(files), newest] if each.exists()]
