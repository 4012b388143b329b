"""The torch trainer on an XLA device, killed in the middle and resumed on a blank machine: equal to the uninterrupted run, or not.

python -m benchmarks.xla

Slow, by command: the first time it makes an environment of its own under .supervisor/ with torch 2.9.0 and torch_xla 2.9.0
(7 GB), because these two fit only each other. XLA then runs on the CPU; no TPU is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kills import differences
from benchmarks.machines import ROOT, Machine, Turn, final_state

TRAINER = ROOT / "trainers" / "hyperlpr.py"
HOME = ROOT / ".supervisor" / "xla"
PACKAGES = (
    "torch==2.9.0", "torch_xla==2.9.0", "numpy", "pillow", "safetensors", "manimgx-fonts-cjk",
    "fontpkg-barlow-semi-condensed", "-r", str(ROOT / "supervisor" / "requirements.txt"),
)  # fmt: skip
STEPS = 24
SMALL = (
    "--plates", "none", "--rendered", "40", "--width", "0.125", "--batch", "4", "--steps", str(STEPS),
    "--report-every", "2", "--eval-every", str(STEPS),
)  # fmt: skip
PATIENCE_S = 1800.0  # two programs are compiled at each start


def main() -> int:
    """0 if the resumed run ended as the uninterrupted one."""
    python = str(environment())
    folder = Path(tempfile.mkdtemp(prefix="xla-"))
    began_s = time.perf_counter()
    whole = Machine(folder / "whole", folder / "whole-store", python=python)
    _ended(_start(whole, "xla"))
    wanted = final_state(whole.store, TRAINER.stem)
    print(f"uninterrupted: {wanted['step']} steps in {time.perf_counter() - began_s:.0f} s", flush=True)

    first = Machine(folder / "first", folder / "store", python=python)
    turn = _start(first, "xla")
    turn.until(f"step 12/{STEPS}", PATIENCE_S)
    turn.kill("both")
    shutil.copytree(first.store, folder / "other-store")
    second = Machine(folder / "second", first.store, python=python)
    text = _ended(_start(second, "xla"))
    found = differences(final_state(second.store, TRAINER.stem), wanted)
    print(f"killed after step 12, resumed on a blank machine: {'; '.join(found) or 'equal'}", flush=True)

    third = Machine(folder / "third", folder / "other-store", python=python)
    other = _ended(_start(third, "cpu"))
    moved = final_state(third.store, TRAINER.stem)["step"] == STEPS and "step 2/" not in other
    print(
        f"resumed from XLA's checkpoint on torch's own CPU device: {'ended' if moved else 'DID NOT RESUME'}", flush=True
    )
    good = not found and moved and "step 2/" not in text
    if good:
        shutil.rmtree(folder)
    print(json.dumps({"equal": not found, "other_device": moved, "steps": STEPS}))
    return 0 if good else 1


def environment() -> Path:
    """Return the Python that has torch_xla, making its environment the first time."""
    python = HOME / "venv" / "bin" / "python"
    stamp = HOME / "complete"
    if not stamp.is_file():
        shutil.rmtree(HOME, ignore_errors=True)
        uv = os.environ.get("UV") or shutil.which("uv")
        install = [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else []
        subprocess.run(
            [uv, "venv", "--quiet", HOME / "venv"] if uv else [sys.executable, "-m", "venv", HOME / "venv"], check=True
        )
        subprocess.run([*(install or [str(python), "-m", "pip", "install", "--quiet"]), *PACKAGES], check=True)
        stamp.touch()
    return python


def _start(machine: Machine, device: str) -> Turn:
    """The plates are drawn once for all machines."""
    environ = {"PJRT_DEVICE": "CPU", "HYPERLPR_CACHE": str(machine.folder.parent / "plates")}
    return machine.start(
        TRAINER, "--save-every", "4steps", "--no-install", arguments=("--device", device, *SMALL), environ=environ
    )


def _ended(turn: Turn) -> str:
    code = turn.wait(PATIENCE_S)
    if code != 0:
        raise SystemExit(f"ended with {code}:\n{turn.text}")
    return turn.text


if __name__ == "__main__":
    raise SystemExit(main())
