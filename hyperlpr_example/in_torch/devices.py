"""Where the torch trainer runs: on the CPU, a CUDA device, or a TPU (torch_xla, which is imported for that alone)."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import numpy as np
import torch

from supervisor.core.errors import SetupError


def device_named(name: str) -> torch.device:
    """The device of --device; auto is a GPU if there is one, else a TPU if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "xla" if _has_tpu() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SetupError("there is no CUDA device on this machine", hint="leave --device out")
    if name == "xla":
        if importlib.util.find_spec("torch_xla") is None:
            raise SetupError(
                "--device xla needs torch_xla",
                hint="use a machine that has it (Colab's TPU machines do), or pip install torch_xla of torch's own version",
            )
        import torch_xla

        device: torch.device = torch_xla.device()
        return device
    return torch.device(name)


def half_precision(device: torch.device) -> torch.dtype | None:
    """bfloat16 where a device has it, else float16; a CPU keeps to float32, and so does an XLA device that is one."""
    if device.type == "xla":
        return torch.bfloat16 if os.environ.get("PJRT_DEVICE", "TPU") == "TPU" else None
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def in_words(device: torch.device, half: torch.dtype | None) -> str:
    """What the training runs on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {str(half).removeprefix('torch.')}, channels last"
    if device.type == "xla":
        kind = os.environ.get("PJRT_DEVICE", "TPU")
        return f"{device} ({kind}), {'bfloat16' if half else 'float32'}; the first two steps are compiled, which takes long"
    return f"{device}, {torch.get_num_threads()} thread(s), float32"


def seed_everything(seed: int, device: torch.device) -> None:
    """Also the generators that are not used here, because they are in the checkpoint: equal runs have equal checkpoints."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator is the one that is meant
    torch.manual_seed(seed)
    if device.type == "xla":
        import torch_xla

        torch_xla.manual_seed(seed)


def step_ends(device: torch.device) -> None:
    """Have an XLA device do what was only noted down during the step; others have done it."""
    if device.type == "xla":
        import torch_xla

        torch_xla.sync()


def _has_tpu() -> bool:
    """Without importing torch_xla, which takes many seconds."""
    there = os.environ.get("PJRT_DEVICE") == "TPU" or Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return there and importlib.util.find_spec("torch_xla") is not None
