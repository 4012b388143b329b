"""How long the first hour takes: from ``git clone`` to the first step, to the first resume, to ``predict`` of a picture.

    python3 -m benchmarks.first_hour [--python PYTHON]… [--trainer FILE] [--source ADDRESS] [--picture FILE] [--folder DIR] [-- ARGUMENTS]

Each Python gets a folder and a HOME of its own, so that nothing is there but what the clone brings and an installer
fetches. The commands are the README's. The supervisor and its trainer are killed with SIGKILL once a step is safe; the
same command then resumes. The disk is that of the clone and of HOME together, files with several names counted once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY_S = 0.1
WAIT_S_MAX = 3000.0
HEADS = ("python", "clone, MB", "first step, s", "MB", "first resume, s", "MB", "predict, s", "MB")
BLOCK_BYTES = 512  # of st_blocks


class FailedError(Exception):
    """A command of the README did not do what it says; the message has its output's end."""


@dataclass
class FirstHour:
    """One newcomer: a Python, a folder with the clone, and a HOME. ``found``: what was measured so far."""

    python: str
    folder: Path
    trainer: str
    arguments: tuple[str, ...] = ()
    found: list[str] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        """The clone."""
        return self.folder / "training-supervisor"

    @property
    def run(self) -> str:
        """The name of the run."""
        return Path(self.trainer).stem

    def environ(self) -> dict[str, str]:
        """Return the environment of somebody who was never here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUPERVISOR_RUN_", "XDG_"))}
        kept.pop("PYTHONPATH", None)
        return {**kept, "HOME": str(self.folder / "home"), "PYTHONUNBUFFERED": "1"}

    def start(self) -> subprocess.Popen[bytes]:
        """Type the README's first command."""
        behind = ["--", *self.arguments] if self.arguments else []
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [self.python, "-m", "supervisor", "start", self.trainer, *behind], cwd=self.clone, env=self.environ(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return what the newest session on this machine says of itself; empty before it says anything."""
        notes = self.folder.glob("home/.cache/training-supervisor/runs/*/*/status.json")
        for note in sorted(notes, key=lambda path: path.parent.name, reverse=True):
            try:
                told = json.loads(note.read_text())
            except (OSError, ValueError):
                continue  # it is being written just now
            if isinstance(told, dict):
                return told
        return {}

    def until(self, process: subprocess.Popen[bytes], true: Callable[[dict[str, Any]], object]) -> None:
        """Wait until the session says so. Raises FailedError where it ends before, or takes too long."""
        end_s = time.perf_counter() + WAIT_S_MAX
        while not true(self.status()):
            if process.poll() is not None or time.perf_counter() > end_s:
                kill(process)
                text = (self.folder / "output.txt").read_text("utf-8", "replace")
                raise FailedError(f"exit code {process.returncode}\n{text[-2000:]}")
            time.sleep(LOOK_EVERY_S)

    def disk(self) -> str:
        """Return how many MB the clone and HOME take."""
        seen: dict[tuple[int, int], int] = {}
        for above, _, names in os.walk(self.folder):
            for name in names:
                try:
                    told = (Path(above) / name).lstat()
                except FileNotFoundError:
                    continue  # it was removed just now
                seen[told.st_dev, told.st_ino] = told.st_blocks * BLOCK_BYTES
        return f"{sum(seen.values()) / 1e6:,.0f}"


def main() -> int:
    """Measure each Python; return 1 where a command failed."""
    options = _options()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, user {os.getuid()}", flush=True)
    rows, failed = [], 0
    for number, python in enumerate(options.python or [sys.executable]):
        folder = Path(tempfile.mkdtemp(prefix=f"first-hour-{number}-", dir=options.folder))
        hour = FirstHour(python, folder, options.trainer, tuple(options.arguments), [_name(python)])
        try:
            measure(hour, options.source, options.picture)
        except FailedError as error:
            failed += 1
            print(f"{python}: {error}", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rows.append(hour.found + ["-"] * (len(HEADS) - len(hour.found)))
        print(f"{python}: {', '.join(hour.found)}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print("\n".join("| " + " | ".join(row) + " |" for row in (HEADS, ["---"] * len(HEADS), *rows)))
    return 1 if failed else 0


def measure(hour: FirstHour, source: str, picture: Path | None) -> None:
    """Do what a newcomer does, and note in ``hour.found`` how long each part took and what the disk holds then."""
    (hour.folder / "home").mkdir()
    _keep_pip_settings(hour.folder / "home")
    began_s = time.perf_counter()
    cloned = subprocess.run(
        ["git", "clone", "-q", source, str(hour.clone)], check=False, capture_output=True, text=True
    )
    if cloned.returncode:
        raise FailedError(cloned.stderr)
    hour.found.append(hour.disk())
    process = hour.start()
    hour.until(process, lambda told: told.get("step"))
    hour.found += [f"{time.perf_counter() - began_s:,.0f}", hour.disk()]
    hour.until(process, lambda told: told.get("checkpoints", {}).get("durable"))
    kill(process)
    before = hour.status()
    began_s = time.perf_counter()
    process = hour.start()
    hour.until(process, lambda told: _goes_on(told, before))
    hour.found += [f"{time.perf_counter() - began_s:,.0f}", hour.disk()]
    os.kill(process.pid, signal.SIGINT)
    process.wait(WAIT_S_MAX)
    if not hour.run.startswith("hyperlpr"):
        return
    began_s = time.perf_counter()
    words = [
        hour.python,
        "-m",
        "hyperlpr_example",
        "predict",
        f"runs/{hour.run}",
        str(picture or _picture(hour.folder)),
    ]
    told = subprocess.run(
        words, cwd=hour.clone, env=hour.environ(), capture_output=True, text=True, check=False, timeout=WAIT_S_MAX
    )
    if told.returncode:
        raise FailedError(f"predict: exit code {told.returncode}\n{told.stdout[-500:]}{told.stderr[-1500:]}")
    hour.found += [f"{time.perf_counter() - began_s:,.0f}", hour.disk()]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 the supervisor and all processes that it started."""
    for pid in [process.pid, *_below(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself just now
    process.wait()


def _below(pid: int) -> list[int]:
    """Return all processes that this one and its children started."""
    above: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            above[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended just now
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        children = [child for child, its in above.items() if its == parent]
        found += children
        waiting += children
    return found


def _goes_on(told: dict[str, Any], before: dict[str, Any]) -> bool:
    safe = before.get("checkpoints", {}).get("durable") or 0
    return told.get("epoch", 0) > before.get("epoch", 0) and (told.get("step") or 0) > safe


def _keep_pip_settings(home: Path) -> None:
    """Let pip find packages where it finds them for the person who measures."""
    settings = Path.home() / ".config" / "pip" / "pip.conf"
    if settings.is_file():
        target = home / ".config" / "pip"
        target.mkdir(parents=True)
        shutil.copyfile(settings, target / "pip.conf")


def _picture(folder: Path) -> Path:
    """Write a picture of one plain colour with a plate's shape, for who has no picture at hand."""
    width, height = 160, 40
    rows = b"".join(b"\0" + bytes((20, 60, 160)) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    )
    path = folder / "plate.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def _name(python: str) -> str:
    told = subprocess.run(
        [python, "-c", "import sys, importlib.util as u; print(sys.version.split()[0], u.find_spec('pip') is not None)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    version, _, pip = told.stdout.strip().partition(" ")
    return f"{version}{'' if pip == 'True' else ' without pip'}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_hour",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", metavar="PYTHON", action="append", help="a Python to measure; repeatable")
    parser.add_argument("--trainer", metavar="FILE", default="trainers/hyperlpr.py", help="the script, in the clone")
    parser.add_argument(
        "--source", metavar="ADDRESS", default=str(ROOT), help="what is cloned (default: this checkout)"
    )
    parser.add_argument("--picture", metavar="FILE", type=Path, help="a picture of a plate (default: one is made)")
    parser.add_argument("--folder", metavar="DIR", help="where to work (default: the system's temporary folder)")
    parser.add_argument("arguments", metavar="ARGUMENTS", nargs="*", help="of the trainer, behind --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
