"""Functions that write what one of their arguments names: after each call the file or folder is told."""

from __future__ import annotations

import os
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.saves import tell_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

SUFFIXES = (".zip", ".npz", ".npy")

# Module: what in it saves, and by which argument its target is named; where that is left out, what it returns names it.
TABLE: dict[str, dict[str, str]] = {
    "joblib": {"dump": "filename"},
    "safetensors.torch": {"save_file": "filename", "save_model": "filename"},
    "accelerate.accelerator": {"Accelerator.save_state": "output_dir", "Accelerator.save_model": "save_directory"},
    "transformers.modeling_utils": {"PreTrainedModel.save_pretrained": "save_directory"},
    "transformers.tokenization_utils_base": {"PreTrainedTokenizerBase.save_pretrained": "save_directory"},
    "lightning.fabric.fabric": {"Fabric.save": "path"},
    "stable_baselines3.common.base_class": {"BaseAlgorithm.save": "path"},
    "xgboost.core": {"Booster.save_model": "fname"},
    "lightgbm.basic": {"Booster.save_model": "filename"},
    "catboost.core": {"CatBoost.save_model": "fname"},
    "torch.jit._serialization": {"save": "f"},
    "torch.distributed.checkpoint.state_dict_saver": {"save": "checkpoint_id"},
}


def install(module: ModuleType, script: Unattached) -> None:
    """Follow the module's functions."""
    for dotted, argument in TABLE[module.__name__].items():
        inside, _, name = dotted.rpartition(".")
        owner = attrgetter(inside)(module) if inside else module
        tell_after(script, owner, name, by_argument(argument))


def by_argument(argument: str) -> Callable[[Any, dict[str, Any]], list[Any]]:
    """Return what ``tell_after`` needs for a function whose ``argument`` names the target."""

    def named(result: Any, arguments: dict[str, Any]) -> list[Any]:
        target = arguments.get(argument)
        return [result if target is None else _with_suffix(target)]

    return named


def _with_suffix(target: Any) -> Any:
    """Return the file that was made of a name to which its writer adds a suffix."""
    if not isinstance(target, str | os.PathLike) or os.path.lexists(target):
        return target
    return next((name for suffix in SUFFIXES if os.path.lexists(name := f"{os.fspath(target)}{suffix}")), target)
