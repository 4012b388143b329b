"""The toy as a person's project, whose steps take long until the test opens a gate: what dies, dies in the middle of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.machines import ROOT

if TYPE_CHECKING:
    from pathlib import Path

STEP_S = 0.25
SCRIPT = """
import sys, time
from pathlib import Path
import supervisor  # first, because it is the one that was sent along
sys.path.append({root!r})
from trainers import toy

train = toy.Model.train

def held(model, sample):
    if not Path({gate!r}).exists():
        time.sleep({step_s})  # because the test makes it
    return train(model, sample)

toy.Model.train = held
toy.main()
"""


def project(folder: Path, gate: Path) -> Path:
    """Write the project's script, which is called like the toy, and return it."""
    folder.mkdir(exist_ok=True)
    script = folder / "toy.py"
    script.write_text(SCRIPT.format(root=str(ROOT), gate=str(gate), step_s=STEP_S))
    return script
