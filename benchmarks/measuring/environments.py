"""Private environments for peers: each sees this interpreter's packages (its torch above all) and adds its own on top."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".supervisor" / "peers"
INSTALL_S_MAX = 900.0
TOLD = 300  # characters of what an installer said last


class CannotInstallError(Exception):
    """A peer's packages cannot be had here; says in words why."""


def interpreter(name: str, packages: Sequence[str]) -> str:
    """Return the Python that has ``packages``: this one if there are none to add. Made once, then found again."""
    if not packages:
        return sys.executable
    folder = HOME / f"{name}-{sys.implementation.cache_tag}"
    python, ready = folder / "bin" / "python", folder / "ready.json"
    wanted = json.dumps([*packages, sys.executable])
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"installing {', '.join(packages)}", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    (site,) = (folder / "lib").glob("python*/site-packages")
    shared = [entry for entry in sys.path if "-packages" in entry]
    (site / "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    constraint = folder / "constraint.txt"
    torch = importlib.metadata.version("torch").partition("+")[0]
    constraint.write_text(f"torch=={torch}\n", encoding="utf-8")  # so that no peer brings another
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", "--constraint", str(constraint), *packages])
    ready.write_text(wanted, encoding="utf-8")
    return str(python)


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise CannotInstallError(f"not installed within {INSTALL_S_MAX:.0f} s") from None
    if ended.returncode != 0:
        said = (ended.stderr or ended.stdout).strip()[-TOLD:]
        raise CannotInstallError(f"could not be installed: {said}")
