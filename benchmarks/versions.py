"""Tests the lowest and the newest supported version of each framework, each in a private environment of its own.

    python -m benchmarks.versions [--only NAME]… [--lowest | --newest] [--list]

A row is a rehearsal of a small script: run, killed, resumed on a fresh machine, compared. An environment is made once,
under .supervisor/versions; `clean --all` removes them. Some take gigabytes: ``--list`` shows the rows and makes nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from supervisor.core import supported
from supervisor.core.errors import UserError
from supervisor.environments import installers, overlay
from supervisor.environments.port import InstallerFailed, Sources

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "frameworks" / "scripts"
TIMEOUT_S = 900.0
STEPS = ("--steps", "120", "--step-ms", "200")
_TORCH = f"torch=={supported.ROWS['torch'].newest}"
# For each framework: the script of the rehearsal, and the packages that its environment also needs.
HOW: dict[str, tuple[str, tuple[str, ...]]] = {
    "torch": ("torch_loop.py", ("numpy",)),
    "tensorflow": ("tensorflow_loop.py", ()),
    "keras": ("keras_fit.py", ("jax", "numpy")),
    "jax": ("jax_loop.py", ()),
    "transformers": ("transformers_trainer.py", (_TORCH, "accelerate>=1.1")),
    "accelerate": ("accelerate_loop.py", (_TORCH, "numpy")),
    "lightning": ("lightning_fit.py", (_TORCH, "numpy")),
}
# Lightning's own checkpoint files hold the time at which they were written.
MORE = {"lightning": ("--no-files",)}
TRIES = 3


@dataclass(frozen=True)
class Case:
    """One version of one framework."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return ROOT / ".supervisor" / "versions" / f"{self.name}-{self.version}-{sys.implementation.cache_tag}"


def main() -> int:
    """Test the rows that are asked for; return 1 if one does not hold."""
    options = _options()
    ends = ["newest"] if options.newest else ["lowest"] if options.lowest else ["lowest", "newest"]
    rows = [supported.ROWS[name] for name in options.only or supported.ROWS]
    cases = [Case(row.name, version) for row in rows for version in dict.fromkeys(getattr(row, end) for end in ends)]
    failed = 0
    for case in cases:
        if options.list:
            print(f"{case.name:14}{case.version:10}{HOW[case.name][0]}")
            continue
        result = tested(case)
        failed += result != "exact"
        print(f"{case.name:14}{case.version:10}{result}", flush=True)
    return 1 if failed else 0


def tested(case: Case) -> str:
    """Return "exact", or what was found instead. A rehearsal that met no kill, as on a busy machine, is tried again."""
    try:
        python = interpreter(case)
    except (InstallerFailed, UserError) as error:
        return f"cannot be installed here: {error}"
    found = ""
    for _ in range(TRIES):
        found = _rehearsed(case, python)
        if "not tested" not in found and "saved no checkpoint" not in found:
            break
    return found


def _rehearsed(case: Case, python: str) -> str:
    script = SCRIPTS / HOW[case.name][0]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "jax"}
    with tempfile.TemporaryDirectory(prefix="versions-") as place:
        words = [
            python,
            "-m",
            "supervisor",
            "rehearse",
            str(script),
            "--no-install",
            "--",
            *STEPS,
            *MORE.get(case.name, ()),
        ]
        try:
            done = subprocess.run(
                words, cwd=place, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return f"not over within {TIMEOUT_S:.0f} s"
    if done.returncode == 0 and "resume is bit-exact" in done.stdout:
        return "exact"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else f"exit code {done.returncode}")


def interpreter(case: Case) -> str:
    """Return the Python of the environment of a case; made once. Raises InstallerFailed, UserError."""
    python, ready = f"{case.folder}/bin/python", case.folder / overlay.STAMP
    if ready.is_file():
        return python
    shutil.rmtree(case.folder, ignore_errors=True)
    overlay.make_venv(sys.executable, case.folder, os.environ)
    wanted = case.folder / "wanted.txt"
    beside = HOW[case.name][1]
    own = (ROOT / "supervisor" / "requirements.txt").read_text(encoding="utf-8")
    names = [line.partition("==")[0] for line in own.splitlines() if "==" in line and not line.startswith((" ", "#"))]
    wanted.write_text("\n".join([f"{case.name}=={case.version}", *beside, *names]), encoding="utf-8")
    print(f"installing {case.name} {case.version} and what it needs", file=sys.stderr, flush=True)
    installer = installers.choose(
        os.environ, ROOT / ".supervisor", lambda words: print(words, file=sys.stderr), cpu=True
    )
    locked = case.folder / "lock.txt"
    chosen = installer.solve(python, wanted.read_text(encoding="utf-8").splitlines(), [], [])
    if any(one.name.startswith("nvidia-") for one in chosen):
        raise InstallerFailed("error: only its build with CUDA can be reached, which takes gigabytes")
    locked.write_text("".join(f"{one.pin}\n" for one in chosen), encoding="utf-8")
    installer.install(python, locked, sources=Sources(hashed=False))
    ready.touch()
    return python


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", choices=list(supported.ROWS), help="test this one")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--lowest", action="store_true", help="only the lowest version of each")
    end.add_argument("--newest", action="store_true", help="only the newest version of each")
    parser.add_argument("--list", action="store_true", help="show what would be tested, and make nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
