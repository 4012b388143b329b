"""What a script is watched through that nobody changed: one hook for each framework, put in when the script imports it.

Nothing is imported that the script does not import, and no file is edited: a hook puts its own function around the
framework's. A hook that fails is told once, and training goes on without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from supervisor.core.messages import Note
from supervisor.trainer.hooks.importing import call_after_import

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

# The module that the script imports, and the hook that is put in right after it was loaded.
ROWS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "transformers.trainer": "transformers",
    "transformers.modeling_utils": "writers",
    "transformers.tokenization_utils_base": "writers",
    "accelerate.accelerator": "writers",
    "lightning.pytorch.trainer.trainer": "lightning",
    "pytorch_lightning.trainer.trainer": "lightning",
    "lightning.fabric.fabric": "writers",
    "safetensors.torch": "writers",
    "joblib": "writers",
    "stable_baselines3.common.base_class": "writers",
    "xgboost.core": "writers",
    "lightgbm.basic": "writers",
    "catboost.core": "writers",
    "torch.jit._serialization": "writers",
    "torch.distributed.checkpoint.state_dict_saver": "writers",
}


def install(script: Unattached) -> None:
    """Have each framework hooked when the script loads it. Call it before the script runs."""

    def loaded(module: ModuleType) -> None:
        try:
            import_module(f"{__name__}.{ROWS[module.__name__]}").install(module, script)
        except Exception as error:  # noqa: BLE001  # whatever a version of the framework lacks, it trains without us
            words = f"{module.__name__} cannot be watched ({type(error).__name__}: {error}); training goes on"
            script.say(Note("warning", words))

    call_after_import(ROWS, loaded)
