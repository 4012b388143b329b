"""What Lightning's checkpoint connector dumps, in parts to attach, and put back by the connector's own functions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.trainer.passing import multiply

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS = ("epoch", "global_step", "pytorch-lightning_version", "loops")
PATHS = ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path")
HYPER_PARAMETERS = ("CHECKPOINT_HYPER_PARAMS_KEY", "CHECKPOINT_HYPER_PARAMS_NAME", "CHECKPOINT_HYPER_PARAMS_TYPE")


class Part:
    """One part of the dump, under a name of its own."""

    def __init__(self, dump: Dump, name: str) -> None:
        self._dump, self._name = dump, name

    def state_dict(self) -> dict[str, Any]:
        """Return live tensors, as Lightning's checkpoint has them."""
        return self._dump.part(self._name)

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Put it back once the last part is here."""
        self._dump.load(self._name, tree)


class Rates(Part):
    """The part of the optimizers, or of the schedulers."""

    def __init__(self, dump: Dump, name: str, owners: Callable[[], list[Any]]) -> None:
        super().__init__(dump, name)
        self._owners = owners

    def scale_learning_rate(self, rate: float) -> None:
        """Multiply every learning rate."""
        for owner in self._owners():
            multiply(owner, rate)


class Dump:
    """Of one trainer. Hyperparameters are left out: they come from the script, and may be of any type."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._taken: dict[str, dict[str, Any]] = {}
        self._loaded: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, Part] = {
            "progress": Part(self, "progress"),
            "datamodule": Part(self, "datamodule"),
            "callbacks": Part(self, "callbacks"),
            "scaler": Part(self, "scaler"),
            "scheduler": Rates(self, "scheduler", lambda: [each.scheduler for each in trainer.lr_scheduler_configs]),
            "optimizer": Rates(self, "optimizer", lambda: trainer.optimizers),
            "model": Part(self, "model"),
        }

    def part(self, name: str) -> dict[str, Any]:
        """Return that part of one dump; a part that is asked for again is of a new one."""
        if name not in self._taken:
            self._taken = self._dumped()
        return self._taken.pop(name)

    def load(self, name: str, tree: dict[str, Any]) -> None:
        """Take that part of a checkpoint; with the last one, all is put back."""
        self._loaded[name] = tree
        if self._loaded.keys() == self.parts.keys():
            loaded, self._loaded = self._loaded, {}
            self._restore(loaded)

    def _dumped(self) -> dict[str, dict[str, Any]]:
        trainer = self._trainer
        found = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # noqa: SLF001  # there is no public one
        for owner in filter(None, (trainer.lightning_module, trainer.datamodule)):
            for key in HYPER_PARAMETERS:
                found.pop(getattr(owner, key, None), None)
        fit_loop = found["loops"]["fit_loop"]
        fit_loop["state_dict"].pop("combined_loader", None)  # Data keeps it
        progress = {key: found.pop(key) for key in PROGRESS}
        progress["trainer"] = {"should_stop": trainer.should_stop}
        callbacks = found.pop("callbacks", {})
        return {
            "progress": progress,
            "datamodule": _taken_out(found, trainer.datamodule),
            "callbacks": {key: _with_paths(state, _relative) for key, state in callbacks.items()},
            "scaler": _taken_out(found, trainer.precision_plugin),
            "scheduler": {"lr_schedulers": found.pop("lr_schedulers", [])},
            "optimizer": {"optimizer_states": found.pop("optimizer_states", [])},
            "model": found,  # and what its on_save_checkpoint has added
        }

    def _restore(self, parts: dict[str, dict[str, Any]]) -> None:
        trainer = self._trainer
        connector = trainer._checkpoint_connector  # noqa: SLF001  # there is no public one
        own = parts["progress"].pop("trainer")
        states = {key: _with_paths(state, _absolute) for key, state in parts.pop("callbacks").items()}
        tree = {key: value for part in parts.values() for key, value in part.items()} | {"callbacks": states}
        connector._loaded_checkpoint = tree  # noqa: SLF001  # as if it had been read from a file
        connector.restore_model()
        connector.restore_datamodule()
        connector.restore_callbacks()
        connector.restore_training_state()
        connector.resume_end()
        for callback in trainer.callbacks:
            _complete(callback, states.get(callback.state_key, {}))
        trainer.should_stop = own["should_stop"]


def _taken_out(found: dict[str, Any], owner: Any) -> dict[str, Any]:
    """Lightning keeps such a state under the name of the class."""
    name = type(owner).__qualname__
    return {name: found.pop(name)} if name in found else {}


def _complete(callback: Any, state: Any) -> None:
    """A ModelCheckpoint whose folder has another name now, as with a logger's next version, forgets its scores."""
    if not (isinstance(state, dict) and "best_k_models" in state and "dirpath" in state):
        return
    for name in state.keys() - {"dirpath", "monitor"}:
        if hasattr(callback, name):
            setattr(callback, name, state[name])


def _with_paths(state: Any, change: Callable[[str], str]) -> Any:
    """Return a ModelCheckpoint's state with its paths changed; other states as they are."""
    if not (isinstance(state, dict) and "dirpath" in state):
        return state
    changed = {key: change(value) if key in PATHS and isinstance(value, str) else value for key, value in state.items()}
    if isinstance(state.get("best_k_models"), dict):
        changed["best_k_models"] = {change(path): score for path, score in state["best_k_models"].items()}
    return changed


def _relative(path: str) -> str:
    """Paths under the working folder are kept relative to it, because the next machine has it elsewhere."""
    here = os.path.realpath(os.curdir)  # as ModelCheckpoint does
    return os.path.relpath(path, here) if path.startswith(here + os.sep) else path


def _absolute(path: str) -> str:
    if not path or "://" in path:
        return path
    return str(Path(os.path.realpath(os.curdir)) / path)  # an absolute one stays as it is
