"""What the supervisor costs: CPU and memory beside a training run, `--help`, and the way to the script's first line.

python -m benchmarks.overheads [--seconds 60] [--tries 15] [--terminal]      a table, then the same as JSON
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

from benchmarks.machines import ROOT, TOY, Machine

FIRST_LINE = 'print("first line", flush=True)\n'
COUNT_MODULES = """
import contextlib, io, runpy, sys
sys.argv = ["supervisor", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    runpy.run_module("supervisor", run_name="__main__")
print(len(sys.modules), *sorted(sys.modules))
"""
HEAVY = {"torch", "tensorflow", "numpy", "rich"}
LIMITS = {
    "supervisor CPU, % of a core": 0.5,
    "supervisor memory, MB": 50.0,
    "--help, ms": 60.0,
    "--help, modules": 80.0,
    "start to first line, ms more": 150.0,
}


def beside_a_run(folder: Path, seconds: float, *, terminal: bool) -> dict[str, float]:
    """Train the toy for ``seconds`` with default saves; return the supervisor's share of a core and its peak memory."""
    machine = Machine(folder / "machine", folder / "store")
    steps = str(round(seconds / 0.02))
    command = machine.command("start", str(TOY), "--", "--steps", steps, "--step-ms", "20")
    ours, theirs = pty.openpty() if terminal else os.pipe()
    began_s = time.perf_counter()
    with subprocess.Popen(command, cwd=machine.work, env=machine.environ(TERM="xterm"), stdout=theirs) as process:
        os.close(theirs)
        Thread(target=_drain, args=(ours,), daemon=True).start()
        peak_kb, cpu_s, alive_s = 0, 0.0, 0.0
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError, StopIteration):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak_kb = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
                ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                cpu_s, alive_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), time.perf_counter() - began_s
            time.sleep(0.2)  # because the cost beside a run is one over real time
    if process.returncode != 0:
        raise SystemExit(f"the run ended with {process.returncode}")
    return {"supervisor CPU, % of a core": 100 * cpu_s / alive_s, "supervisor memory, MB": peak_kb / 1000}


def help_text(tries: int) -> dict[str, float]:
    """Time ``--help`` (the median) and count the modules it loads."""
    took_ms = [_first_line_ms([sys.executable, "-m", "supervisor", "--help"], ROOT, b"usage") for _ in range(tries)]
    shown = subprocess.run([sys.executable, "-c", COUNT_MODULES], cwd=ROOT, capture_output=True, text=True, check=True)
    count, *names = shown.stdout.split()
    if HEAVY & set(names):
        raise SystemExit(f"--help loads {HEAVY & set(names)}")
    return {"--help, ms": statistics.median(took_ms), "--help, modules": float(count)}


def first_line(folder: Path, tries: int) -> dict[str, float]:
    """Time a script's first line with and without the supervisor, by turns; return the difference of the medians."""
    script = folder / "first.py"
    script.write_text(FIRST_LINE)
    alone_ms, supervised_ms = [], []
    for number in range(-1, tries):  # the first try prepares the machine and does not count
        machine = Machine(folder / f"blank-{number}", folder / "store")
        command = machine.command("start", str(script), "--name", f"first{number}")
        took_ms = _first_line_ms(command, machine.work, b"first line", machine.environ())
        if number >= 0:
            supervised_ms.append(took_ms)
            alone_ms.append(_first_line_ms([sys.executable, str(script)], machine.work, b"first line"))
    alone, supervised = statistics.median(alone_ms), statistics.median(supervised_ms)
    return {"script alone to first line, ms": alone, "start to first line, ms more": supervised - alone}


def main() -> int:
    """Measure all, print the table and the JSON; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tries", type=int, default=15)
    parser.add_argument("--terminal", action="store_true", help="measure with the live line of a terminal")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overheads-") as name:
        folder = Path(name)
        found = {
            **help_text(options.tries),
            **first_line(folder, options.tries),
            **beside_a_run(folder, options.seconds, terminal=options.terminal),
        }
    for what, value in found.items():
        limit = LIMITS.get(what)
        verdict = "" if limit is None else f"  limit {limit:g}  {'ok' if value < limit else 'OVER'}"
        print(f"{what:34} {value:8.2f}{verdict}")
    print(json.dumps({what: round(value, 3) for what, value in found.items()}))
    return 1 if any(found[what] >= limit for what, limit in LIMITS.items()) else 0


def _first_line_ms(command: list[str], folder: Path, words: bytes, environ: dict[str, str] | None = None) -> float:
    began_s = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        took_s = next(time.perf_counter() - began_s for line in process.stdout if words in line)
        process.stdout.read()
    return 1000 * took_s


def _drain(end: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(end, 65536):
            pass


if __name__ == "__main__":
    raise SystemExit(main())
