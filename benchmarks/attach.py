"""What attach(), run.steps() and run.log() cost a training loop, and what the runner adds to a start: prints JSON.

python benchmarks/attach.py [--steps 50000]      microseconds a step, milliseconds a start; nothing is trained
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOPS = {
    "bare loop": "for step in range(STEPS):\n    loss = VALUE",
    "steps()": "for step in run.steps(STEPS):\n    loss = VALUE",
    "steps() and log()": "for step in run.steps(STEPS):\n    loss = VALUE\n    run.log(loss=loss)",
    "steps() and log() of a tensor": "for step in run.steps(STEPS):\n    loss = VALUE\n    run.log(loss=TENSOR)",
}
SCRIPT = """
import time, supervisor
from supervisor.trainer.order import Order
TENSOR_IMPORT
STEPS, VALUE = {steps}, 0.5
run = supervisor.attach(data=Order(9))
last = [0.0]
def body():
    begin = time.perf_counter()
{loop}
        if step == STEPS - 2:
            last[0] = time.perf_counter() - begin  # before the final save
body()
print(1e6 * last[0] / STEPS)
"""


def main() -> None:
    """Measure everything a few times and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        costs = {name: _per_step_us(folder, name, options) for name in LOOPS if "tensor" not in name or _has_torch()}
        starts = _starts_ms(folder, 10 * options.repeat)
    print(json.dumps({"python": sys.version.split()[0], "us_a_step": costs, "start_ms": starts}, indent=1))


def _per_step_us(folder: Path, name: str, options: argparse.Namespace) -> float:
    loop = "\n".join(f"    {line}" for line in LOOPS[name].splitlines())
    imported = "import torch; TENSOR = torch.tensor(0.5)" if "tensor" in name else ""
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("TENSOR_IMPORT", imported).format(steps=options.steps, loop=loop))
    found = [float(_supervised(folder, script)) for _ in range(options.repeat)]
    return round(statistics.median(found), 3)


def _supervised(folder: Path, script: Path) -> str:
    """Run the script under the runner with a supervisor that listens and says nothing."""
    with tempfile.TemporaryDirectory(dir=folder) as place, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}/channel")
        server.listen(1)
        threading.Thread(target=_listen, args=(server,), daemon=True).start()
        environ = {
            "SUPERVISOR_RUN_CHANNEL": f"{place}/channel",
            "SUPERVISOR_RUN_STAGING": f"{place}/staging",
            "SUPERVISOR_RUN_SAVE_EVERY": "asked",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "supervisor.trainer", str(script)]
        return subprocess.run(command, env={**os.environ, **environ}, check=True, capture_output=True, text=True).stdout


def _listen(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(65536):
            pass


def _starts_ms(folder: Path, repeat: int) -> dict[str, float]:
    script = folder / "empty.py"
    script.write_text("pass\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    plain: list[float] = []
    runner: list[float] = []
    for _ in range(repeat):  # in turns, so that other load on the machine falls on both
        for times, command in ((plain, [str(script)]), (runner, ["-m", "supervisor.trainer", str(script)])):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *command], env=environ, check=True)
            times.append(1000 * (time.perf_counter() - begin))
    both = {"plain": statistics.median(plain), "runner": statistics.median(runner)}
    return {name: round(value, 1) for name, value in both.items()} | {"added": round(both["runner"] - both["plain"], 1)}


def _has_torch() -> bool:
    command = [sys.executable, "-c", "import torch"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
