"""Seeds the generators that the script does not seed: the same before attach() on every machine of a run.

A split that is drawn before attach() is drawn again on the next machine. So the global generators of Python, NumPy and torch
are seeded before the script can use them. A run's beginning draws a new seed; later attempts use the checkpoint's. A script
that seeds itself is unaffected. For a script that never attaches, nothing is recorded.
"""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE
from supervisor.trainer.hooks.import_hook import call_after_import

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SEED = "seed"  # key in a checkpoint's made_by
SEED_BITS = 32  # what NumPy's global generator takes
_SEEDED_AFTER = {"numpy.random": "seed", "torch": "manual_seed"}


def begin(checkpoint: Path | None) -> int:
    """Seed this process's generators, those of frameworks when the script imports them. Return the seed."""
    saved = _saved_seed(checkpoint)
    seed = int.from_bytes(os.urandom(SEED_BITS // 8), "big") if saved is None else saved
    random.seed(seed)

    def on_import(module: ModuleType) -> None:
        getattr(module, _SEEDED_AFTER[module.__name__])(seed)

    call_after_import(_SEEDED_AFTER, on_import)
    return seed


def _saved_seed(checkpoint: Path | None) -> int | None:
    """Return the checkpoint's seed; None if it has none or cannot be read. attach() reports a damaged checkpoint."""
    if checkpoint is None:
        return None
    try:
        seed = int(json.loads((checkpoint / CONTENT_FILE).read_bytes())["made_by"][SEED])
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return seed if 0 <= seed < 2**SEED_BITS else None
