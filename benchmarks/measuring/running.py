"""Runs one engine or the limits in a process of its own and gives back what it found: one's allocator or threads disturb no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measuring import environments, syscalls

if TYPE_CHECKING:
    from benchmarks.engines import Row

ROOT = Path(__file__).resolve().parents[2]
TOLD = 400  # characters of the last line of what a process said
LIMITS_S_MAX = 900.0


class Setting(NamedTuple):
    """What holds for every row of a run; ``place`` is a folder on the disk that is measured, ``seconds`` a row's longest."""

    size: str
    place: Path
    repeat: int
    threads: int
    cores: int
    seconds: float


def row_measured(row: Row, setting: Setting, only: str = "") -> dict[str, Any]:
    """Return one engine's row; what went wrong is its ``error``, beside what was measured before."""
    found: dict[str, Any] = {"engine": row.name}
    try:
        python = environments.interpreter(row.environment, row.packages)
    except environments.CannotInstallError as error:
        return found | {"error": str(error)}
    with tempfile.TemporaryDirectory(dir=setting.place) as folder:
        out = Path(folder) / "lines.jsonl"
        order = {
            "made_by": row.made_by, "state": row.state, "size": setting.size, "out": str(out), "repeat": setting.repeat,
            "threads": setting.threads, "cores": setting.cores, "folder": _new(folder, "checkpoints"), "only": only,
        }  # fmt: skip
        command = [python, "-m", "benchmarks.measuring.phases"]
        wrong = _ended([*command, json.dumps(order)], setting.seconds)
        for line in out.read_text(encoding="utf-8").splitlines() if out.is_file() else ():
            found |= json.loads(line)
        if wrong is not None:
            return found | {"error": wrong}
        if only:
            return found
        order |= {"only": "syscalls", "folder": _new(folder, "traced")}
        traced = [*command, json.dumps(order)]
        return found | {"fsyncs": syscalls.flushes(traced, _environ(), Path(folder) / "trace", setting.seconds)}


def limits_measured(state_bytes: int, setting: Setting) -> dict[str, list[float]]:
    """Return samples of every limit by name, in seconds."""
    with tempfile.TemporaryDirectory(dir=setting.place) as folder:
        out = Path(folder) / "lines.jsonl"
        order = {
            "bytes": state_bytes, "folder": _new(folder, "files"), "out": str(out), "repeat": setting.repeat,
            "cores": setting.cores,
        }  # fmt: skip
        wrong = _ended([sys.executable, "-m", "benchmarks.measuring.limits", json.dumps(order)], LIMITS_S_MAX)
        if wrong is not None:
            raise SystemExit(f"the limits could not be measured: {wrong}")
        samples: dict[str, list[float]] = json.loads(out.read_text(encoding="utf-8"))
        return samples


def _ended(command: list[str], seconds: float) -> str | None:
    """Run it to its end and leave nothing of it running; return what went wrong, or None."""
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command, env=_environ(), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        ) as process:
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if code == 0:
            return None
        said.seek(0)
        last = said.read().decode(errors="replace").strip().rpartition("\n")[2][:TOLD]
    return f"not done after {seconds:.0f} s" if code is None else f"ended with {code}: {last}"


def _environ() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_RUN_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def _new(folder: str, name: str) -> str:
    path = Path(folder) / name
    path.mkdir()
    return str(path)
