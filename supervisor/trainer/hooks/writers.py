"""Functions that write what one of their arguments names: after each call the file or folder is told."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.saves import tell_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

# Module: what in it saves, and by which argument its target is named; where that is left out, what it returns names it.
TABLE: dict[str, dict[str, str]] = {
    "joblib": {"dump": "filename"},
    "safetensors.torch": {"save_file": "filename", "save_model": "filename"},
    "accelerate.accelerator": {"Accelerator.save_state": "output_dir", "Accelerator.save_model": "save_directory"},
    "transformers.modeling_utils": {"PreTrainedModel.save_pretrained": "save_directory"},
    "transformers.tokenization_utils_base": {"PreTrainedTokenizerBase.save_pretrained": "save_directory"},
    "lightning.fabric.fabric": {"Fabric.save": "path"},
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
        return [result if target is None else target]

    return named
