"""Hooks for scripts that do not call attach(), installed when a framework is imported.

Nothing is imported that the script does not import, and no file is edited: a hook wraps the framework's function. A failing
hook is reported once, and training continues without it.

- ``auto_attach``: --attach auto
- ``error_guard``: an error in a hook never reaches the script
- ``import_hook``: calls after a module is imported
- ``keras``: Keras
- ``lightning``: Lightning
- ``on_demand_save``: saves that the supervisor asks for
- ``restored_files``: which restored files the script opens
- ``save_tracker``: files that the script's saves write
- ``tensorflow``: TensorFlow
- ``torch``: PyTorch
- ``transformers``: transformers
- ``unmodified_script``: counts steps, reports, answers requests
- ``writer_functions``: library functions that write files
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer.hooks.import_hook import call_after_import

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

# The module that the script imports, and the hook that is put in right after it was loaded.
ROWS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "transformers.trainer": "transformers",
    "transformers.modeling_utils": "writer_functions",
    "transformers.tokenization_utils_base": "writer_functions",
    "accelerate.accelerator": "writer_functions",
    "lightning.pytorch.trainer.trainer": "lightning",
    "pytorch_lightning.trainer.trainer": "lightning",
    "lightning.fabric.fabric": "writer_functions",
    "safetensors.torch": "writer_functions",
    "joblib": "writer_functions",
    "stable_baselines3.common.base_class": "writer_functions",
    "xgboost.core": "writer_functions",
    "lightgbm.basic": "writer_functions",
    "catboost.core": "writer_functions",
    "torch.jit._serialization": "writer_functions",
    "torch.distributed.checkpoint.state_dict_saver": "writer_functions",
}


def install(script: UnmodifiedScript) -> None:
    """Have each framework hooked when the script loads it. Call this before the script runs."""

    def on_import(module: ModuleType) -> None:
        try:
            import_module(f"{__name__}.{ROWS[module.__name__]}").install(module, script)
        except Exception as error:  # noqa: BLE001  # an unknown framework version must not stop training
            message = f"{module.__name__} cannot be watched ({type(error).__name__}: {error}); training goes on"
            script.send(TrainerNote("warning", message))

    call_after_import(ROWS, on_import)
