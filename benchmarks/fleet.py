"""A machine dies and the next one goes on: how long that takes, part by part; and what the controller costs when nothing happens.

python -m benchmarks.fleet --on local|ssh|colab [--deaths 5] [--idle 60] [--seed 1] [--state-mb 1]

``ssh`` needs an sshd here, ``colab`` the official command line and root: it runs against a control plane on this computer, so that
bringing up is what a machine of namespaces takes here. Listings, pauses and polls are the product's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machines import ROOT
from supervisor.core.provisioning import Machine
from supervisor.engine.clock import BootClock
from tests.contracts.provisioners import WORLDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contracts.provisioners import World

NAME = "timed"
SCRIPT = '''"""A trainer that logs when it began, when it had restored, and when each step was done."""
import argparse, time
BEGAN = time.time()
from array import array
import supervisor

parser = argparse.ArgumentParser()
parser.add_argument("--state-mb", type=float)
options = parser.parse_args()


class Model:
    weights = array("d", range(int(options.state_mb * 125_000)))

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights = state["weights"]


model = Model()
run = supervisor.attach(model=model)
restored = time.time()
for step in run.steps(1_000_000):
    time.sleep(0.05)  # because this is the work of a step
    model.weights[step % len(model.weights)] += 1
    run.log(began=BEGAN, restored=restored, at=time.time())
'''
PARTS = (
    "noticed", "listings", "pause", "bring up", "code and checkpoint sent", "agent started", "supervisor, packages, claim",
    "checkpoint restored", "first new step", "all",
)  # fmt: skip
WAIT_S = 600.0
LOOK_S = 0.05
SETTLED_S = 10.0


@dataclass(slots=True)
class Night:
    """One `launch` with its home."""

    folder: Path
    world: World
    process: subprocess.Popen[bytes]

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What the controller's journal says, oldest first; a line that is being written is left out."""
        files = list((self.folder / "local").glob("**/fleet/*/journal.jsonl"))
        lines = files[0].read_text().split("\n")[:-1] if files else []
        return [record for line in lines if "is" in (record := json.loads(line))]

    def machine(self, number: int) -> Machine | None:
        """The machine that serves as this one of the run's, once it is up."""
        found = [record["machine"] for record in self.journal if record.get("is") == "BroughtUp"]
        if len(found) < number:
            return None
        return Machine(**{name: found[number - 1][name] for name in ("name", "endpoint", "hardware", "record")})

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """The step log of one machine's session, as far as it is at home."""
        pieces = sorted((self.folder / "runs" / NAME).glob(f"e{epoch:08d}-*/log-*.jsonl"))
        return [json.loads(line) for piece in pieces for line in piece.read_text().splitlines()]

    def safe(self, epoch: int) -> bool:
        """Whether home holds a checkpoint of this machine's session."""
        found = (self.folder / "runs" / NAME).glob(f"e{epoch:08d}-*/step-*/manifest-*")
        return any(True for _ in found)

    def until(self, what: str, true: Any) -> Any:
        """Wait for something of the run, which goes on meanwhile."""
        end_s = time.perf_counter() + WAIT_S
        while not (found := true()):
            if self.process.poll() is not None:
                raise SystemExit(f"launch ended with {self.process.returncode}: see {self.folder}/launch.log")
            if time.perf_counter() > end_s:
                raise SystemExit(f"waited {WAIT_S:.0f} s for {what}: see {self.folder}/launch.log")
            time.sleep(LOOK_S)  # because other processes do what is waited for
        return found


@contextlib.contextmanager
def begun(folder: Path, world: World, state_mb: float, save_every: str) -> Iterator[Night]:
    """A launch; afterwards it is asked to end, which gives its machine back."""
    night = begin(folder, world, state_mb, save_every)
    try:
        yield night
        night.process.send_signal(signal.SIGINT)
        night.process.wait(WAIT_S)
    finally:
        if night.process.poll() is None:
            os.killpg(night.process.pid, signal.SIGKILL)
            night.process.wait()


def begin(folder: Path, world: World, state_mb: float, save_every: str) -> Night:
    """Launch the run from a project of its own."""
    project = folder / "project"
    project.mkdir(parents=True)
    (project / f"{NAME}.py").write_text(SCRIPT)
    words = ["launch", f"{NAME}.py", "--on", world.on, "--store", str(folder / "runs"), "--save-every", save_every]
    kept = {name: value for name, value in world.environ.items() if not name.startswith("SUPERVISOR_RUN_")}
    environ = kept | {
        "PYTHONPATH": str(ROOT),
        "SUPERVISOR_RUN_LOCAL": str(folder / "local"),
        "SUPERVISOR_RUN_FIRMWARE": "",
    }
    with (folder / "launch.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", *words, "--", "--state-mb", str(state_mb)],
            cwd=project, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return Night(folder, world, process)


def kill_machines(night: Night, deaths: int, chance: random.Random) -> list[dict[str, float]]:
    """Kill one machine after another, each when home has a checkpoint of it; return the parts of each way to the next."""
    ways = []
    for number in range(1, deaths + 1):
        machine = night.until("a machine", lambda at=number: night.machine(at))
        night.until("a checkpoint at home", lambda at=number: night.safe(at))
        time.sleep(chance.uniform(0.0, 5.0))  # so that deaths fall anywhere between two polls
        died_s = BootClock().now().wall_s
        night.world.vanish(machine)
        night.until("the next machine's steps", lambda at=number + 1: night.rows(at))
        ways.append(parts(night, number, died_s))
        print(f"death {number}: {ways[-1]['all']:.1f} s", file=sys.stderr)
    return ways


def parts(night: Night, number: int, died_s: float) -> dict[str, float]:
    """Return the seconds of each part between a death and the next machine's first new step."""
    after = [record for record in night.journal if record["wall_s"] >= died_s]

    def when(name: str, call: str = "") -> float:
        return next(each["wall_s"] for each in after if each["is"] == name and call in ("", each.get("call")))

    first = night.rows(number + 1)[0]
    gone = [each["wall_s"] for each in after if each["is"] == "Listed" and each["wall_s"] <= when("BringUp")]
    unheard = (each["wall_s"] for each in after if (each["is"], each.get("call")) == ("Failed", "Poll"))
    ends = [
        min(next(unheard, gone[0]), gone[0]), max(each for each in gone if each < when("BringUp")), when("BringUp"), when("BroughtUp"),
        when("Prepared"), when("AgentStarted"), first["began"], first["restored"], first["at"],
    ]  # fmt: skip
    begins = [died_s, *ends]
    way = {name: end - begun for name, begun, end in zip(PARTS, begins, ends, strict=False)}
    return way | {"all": ends[-1] - died_s}


def idle(night: Night, seconds: float) -> dict[str, float]:
    """Return what the controller uses of a core while its machine trains: itself, and with the calls that it makes."""
    night.until("steps", lambda: any(each["is"] == "Polled" and each["step"] is not None for each in night.journal))
    time.sleep(SETTLED_S)  # because what the session stored at its beginning is fetched first
    before, began_s = _used_s(night.process.pid), time.perf_counter()
    time.sleep(seconds)  # because the cost of waiting is one over real time
    after, took_s = _used_s(night.process.pid), time.perf_counter() - began_s
    own, calls = (100 * (now - then) / took_s for now, then in zip(after, before, strict=True))
    return {"controller itself, % of a core": own, "with its calls, % of a core": own + calls}


def _used_s(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks, (int(fields[13]) + int(fields[14])) / ticks


def table(ways: list[dict[str, float]]) -> str:
    """Return medians and worst cases as a table."""
    lines = ["| part | median, s | worst, s |", "|--|-:|-:|"]
    for name in PARTS:
        seconds = [way[name] for way in ways]
        lines.append(f"| {name} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=sorted(WORLDS.keys() - {"fake"}), default="local")
    parser.add_argument("--deaths", type=int, default=5)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state-mb", type=float, default=1.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    make, missing = WORLDS[options.on]
    if why := missing():
        raise SystemExit(why)
    world = make(folder / "far")
    try:
        with begun(folder / "deaths", world, options.state_mb, "2s") as night:
            ways = kill_machines(night, options.deaths, random.Random(options.seed))
        with begun(folder / "idle", world, options.state_mb, "1h") as night:
            cost = idle(night, options.idle)
    finally:
        world.end()
    print(f"--on {options.on}, {len(ways)} deaths, seed {options.seed}, state of {options.state_mb:g} MB\n")
    if ways:
        print(f"{table(ways)}\n")
    for name, percent in cost.items():
        print(f"{name}: {percent:.2f}")
    print(f"all of it lies in {folder}")


if __name__ == "__main__":
    main()
