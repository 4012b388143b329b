"""Seeds for generators that the script does not seed: the same before attach() on every machine of a run.

A split that is drawn before attach() is drawn again on the next machine. So the global generators of Python, NumPy and torch
get a seed before the script can draw from them: a new one at a run's beginning, later the one that the checkpoint has. A
script that seeds itself draws as it always does, and of a script that never attaches nothing is kept.
"""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING

from supervisor.core.content import CONTENT_FILE
from supervisor.trainer.hooks.importing import call_after_import

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SEED = "seed"  # key of what a checkpoint says of its maker
SEED_BITS = 32  # what NumPy's global generator takes
_SEEDED_AFTER = {"numpy.random": "seed", "torch": "manual_seed"}


def begin(checkpoint: Path | None) -> int:
    """Seed the generators of this process, those of frameworks when the script imports them; return the seed."""
    kept = _kept(checkpoint)
    seed = int.from_bytes(os.urandom(SEED_BITS // 8), "big") if kept is None else kept
    random.seed(seed)

    def loaded(module: ModuleType) -> None:
        getattr(module, _SEEDED_AFTER[module.__name__])(seed)

    call_after_import(_SEEDED_AFTER, loaded)
    return seed


def _kept(checkpoint: Path | None) -> int | None:
    """Return the seed of the checkpoint; None where it has none, or cannot be read: attach() says what is wrong with it."""
    if checkpoint is None:
        return None
    try:
        seed = int(json.loads((checkpoint / CONTENT_FILE).read_bytes())["made_by"][SEED])
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return seed if 0 <= seed < 2**SEED_BITS else None
