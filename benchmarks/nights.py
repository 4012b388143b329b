"""Nights of `launch` in which controller, machine, network, disk and kernel die at random: nothing safe is lost, nothing is left, nothing is silent.

python -m benchmarks.nights --runs 40 [--on local|colab] [--seed 1] [--jobs 2] [--keep]

A night's minute takes six seconds (``night_launch.SCALE``). Checked after each: the run ends with exit code 0 and the state of
an uninterrupted one; no machine went on from less than was safe; no machine is left; no wait without a word was longer than
three of the night's minutes. ``colab`` needs root: it runs against a control plane on this computer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.machines import ROOT, TOY, Machine, final_state
from benchmarks.night_launch import DISK_FULL, FOLDER, NO_NETWORK, SCALE
from supervisor.core import fleet_words as fw
from supervisor.fleet.controller import JOURNAL, records
from tests.fleet.paced import project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = ("--steps", "300", "--step-ms", "0", "--state-mb", "0.2", "--seed", "4")
EVENTS = ("controller", "machine", "network", "disk", "kernel", "agent's files")
NIGHT_S_MAX = 900.0
SILENT_S_MAX = 180.0 / SCALE
SLACK_S = 4.0  # for a loaded computer
LOOK_S = 0.1
WORDS = re.compile(r"\[fleet\]|^ {8}|^error:")


class World(Protocol):
    """Where a night's machines are."""

    environ: dict[str, str]
    on: str

    def reclaim(self) -> None: ...
    def kill_kernel(self) -> None: ...
    def folders(self) -> list[Path]: ...
    def network(self, *, there: bool) -> None: ...
    def left(self) -> list[str]: ...
    def end(self) -> None: ...


class Local:
    """Machines on this computer; a kernel is the agent's process here."""

    on = "local"

    def __init__(self, folder: Path) -> None:
        self._base = folder / "machines"
        self.environ = {**os.environ, "SUPERVISOR_LOCAL_MACHINES": str(self._base)}

    def folders(self) -> list[Path]:
        return [each for each in self._base.glob("*") if each.is_dir() and not each.name.startswith(".")]

    def reclaim(self) -> None:
        for machine in self.folders():
            gone = machine.with_name(f".gone-{machine.name}")
            machine.rename(gone)  # first, because a process that still lives must not make the folder again
            _kill(machine)
            for folder in (gone, machine):
                shutil.rmtree(folder, ignore_errors=True)

    def kill_kernel(self) -> None:
        for machine in self.folders():
            _kill(machine, b"\0agent\0")

    def network(self, *, there: bool) -> None:
        """The launch cuts itself off."""

    def left(self) -> list[str]:
        return [each.name for each in self.folders()]

    def end(self) -> None:
        self.reclaim()


class Colab:
    """Machines of namespaces behind a control plane on this computer, and the official command line."""

    on = "colab"

    def __init__(self, folder: Path) -> None:
        from tests.fleet.plane.vm_box import missing
        from tests.fleet.plane.world import World as Plane

        if why := missing():
            raise SystemExit(why)
        self._plane = Plane(folder)
        self.environ = self._plane.environ

    def folders(self) -> list[Path]:
        return [vm.box.content / "training-supervisor" for vm in self._plane.service.assigned]

    def reclaim(self) -> None:
        for vm in self._plane.service.assigned:
            vm.end()

    def kill_kernel(self) -> None:
        from tests.machines.machine import inhabitants, words_of

        for vm in self._plane.service.assigned:
            for pid in inhabitants(vm.box.first):
                if b"ipykernel" in words_of(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def network(self, *, there: bool) -> None:
        self._plane.gateway.server.down = not there
        for vm in self._plane.service.assigned:
            vm.tunnel.answers = "" if there else "502 Bad Gateway"

    def left(self) -> list[str]:
        return [vm.endpoint for vm in self._plane.service.assigned]

    def end(self) -> None:
        self._plane.end()


@dataclass
class Night:
    """One run over as many machines as it takes, and all that was wrong with it."""

    folder: Path
    world: World
    chance: random.Random
    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    silent_s: float = 0.0
    text: list[str] = field(default_factory=list)

    def pass_by(self, events: int, wanted: dict[str, Any]) -> Night:
        """Let the events happen and the run end; compare."""
        script, environ = project(self.folder / "project", self.folder / "gate"), self._environ()
        command = [
            sys.executable, "-m", "benchmarks.night_launch", "launch", str(script), "--on", self.world.on, "--save-every", "20steps",
            "--store", str(self.folder / "runs"), "--no-install", "--", *JOB,
        ]  # fmt: skip
        try:
            code = self._lived(command, environ, events)
            if code != 0:
                self.wrong.append(f"exit code {code}")
            if left := self.world.left():
                self.wrong.append(f"machines left: {', '.join(left)}")
            self._went_back()
            if code == 0 and final_state(self.folder / "runs", "toy") != wanted:
                self.wrong.append("the state is not that of an uninterrupted run")
        finally:
            self.world.end()
        if self.silent_s > SILENT_S_MAX + SLACK_S:
            self.wrong.append(f"silent for {self.silent_s * SCALE / 60:.1f} of the night's minutes")
        return self

    def _lived(self, command: list[str], environ: dict[str, str], events: int) -> int:
        launch, end_s = self._begin(command, environ), time.perf_counter() + NIGHT_S_MAX
        try:
            for number in range(events):
                if not self._waits(launch, self.chance.uniform(0.5, 12.0)):
                    break
                event = self.chance.choice(EVENTS) if number else "machine"
                self.done.append(event)
                launch = self._happen(event, launch, command, environ)
            (self.folder / "gate").touch()
            return launch.wait(max(1.0, end_s - time.perf_counter()))
        except subprocess.TimeoutExpired:
            self.wrong.append("it has not ended")
            return -1
        finally:
            if launch.poll() is None:
                os.killpg(launch.pid, signal.SIGKILL)
                launch.wait()

    def _happen(
        self, event: str, launch: subprocess.Popen[str], command: list[str], environ: dict[str, str]
    ) -> subprocess.Popen[str]:
        if event == "controller":
            launch.kill()
            launch.wait()
            time.sleep(self.chance.uniform(0.0, 5.0))  # a person starts the controller again some seconds later
            return self._begin(command, environ)
        if event == "machine":
            self.world.reclaim()
        elif event == "kernel":
            self.world.kill_kernel()
        elif event == "agent's files":
            for each in self.world.folders():
                shutil.rmtree(each / "agent", ignore_errors=True)
        else:
            file = self.folder / {"network": NO_NETWORK, "disk": DISK_FULL}[event]
            file.touch()
            self.world.network(there=event != "network")
            self._waits(launch, self.chance.uniform(1.0, 25.0))
            file.unlink()
            self.world.network(there=True)
        return launch

    def _waits(self, launch: subprocess.Popen[str], seconds: float) -> bool:
        """Wait so long; say whether the launch still runs."""
        end_s = time.perf_counter() + seconds
        while launch.poll() is None and time.perf_counter() < end_s:
            time.sleep(LOOK_S)  # the processes of the night run meanwhile
        return launch.poll() is None

    def _begin(self, command: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
        launch = subprocess.Popen(
            command, cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(launch,), daemon=True).start()
        return launch

    def _read(self, launch: subprocess.Popen[str]) -> None:
        last_s, began_s = time.perf_counter(), time.perf_counter()
        assert launch.stdout is not None
        for line in launch.stdout:
            now_s = time.perf_counter()
            if WORDS.search(line):
                self.silent_s, last_s = max(self.silent_s, now_s - last_s), now_s
            self.text.append(f"{now_s - began_s:7.1f} {line}")
        self.silent_s = max(self.silent_s, time.perf_counter() - last_s)

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in self.world.environ.items() if not name.startswith("SUPERVISOR_RUN_")}
        own = {
            "PYTHONPATH": str(ROOT),
            "SUPERVISOR_RUN_LOCAL": str(self.folder / "local"),
            "SUPERVISOR_RUN_FIRMWARE": "",
        }
        return {**kept, **own, FOLDER: str(self.folder), "PYTHONUNBUFFERED": "1"}

    def _went_back(self) -> None:
        """See that each machine went on from at least what was safe before."""
        safe = -1
        for journal in (self.folder / "local").glob(f"**/fleet/*/{JOURNAL}"):
            for _, value in records(journal):
                if isinstance(value, fw.Polled | fw.Failed) and value.safe is not None:
                    safe = max(safe, value.safe)
                if isinstance(value, fw.Prepared) and (-1 if value.step is None else value.step) < safe:
                    self.wrong.append(f"a machine went on from step {value.step}, and step {safe} was safe")


def _kill(machine: Path, word: bytes = b"") -> None:
    """Kill the processes of a machine that is a folder; ``word``: only those with it in their command line."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes()
            told = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(machine) in told and word in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)


WORLDS: dict[str, Callable[[Path], World]] = {"local": Local, "colab": Colab}


def nights(options: argparse.Namespace, folder: Path) -> Iterator[Night]:
    """Yield each night when it is over."""
    alone = Machine(folder / "one machine", folder / "uninterrupted")
    done = alone.run("start", str(TOY), "--no-install", "--", *JOB)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    wanted = final_state(folder / "uninterrupted", "toy")

    def one(number: int) -> Night:
        chance, place = random.Random(f"{options.seed} {number}"), folder / f"night-{number}"
        place.mkdir()
        return Night(place, WORLDS[options.on](place / "world"), chance).pass_by(
            chance.randint(2, options.events), wanted
        )

    with ThreadPoolExecutor(options.jobs) as pool:
        yield from pool.map(one, range(options.first, options.first + options.runs))


def main() -> int:
    """Print a line for each night, and what all of them came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--on", choices=sorted(WORLDS), default="local")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--first", type=int, default=1, help="the number of the first night, to repeat one")
    parser.add_argument("--events", type=int, default=5, help="events of a night at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folders of good nights, too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nights-"))
    counts: Counter[str] = Counter()
    wrong, silent_s = 0, 0.0
    for number, night in enumerate(nights(options, folder), options.first):
        counts.update(night.done)
        wrong, silent_s = wrong + bool(night.wrong), max(silent_s, night.silent_s)
        verdict = f"WRONG: {'; '.join(night.wrong)} ({night.folder})" if night.wrong else "whole"
        longest = f"longest silence {night.silent_s * SCALE / 60:.1f} of its minutes"
        print(f"night {number}: {', '.join(night.done)}: {longest}: {verdict}", flush=True)
        (night.folder / "said.txt").write_text("".join(night.text))
        if not night.wrong and not options.keep:
            shutil.rmtree(night.folder, ignore_errors=True)
    told = {
        "runs": options.runs,
        "wrong": wrong,
        "events": dict(counts),
        "longest_silence_min": round(silent_s * SCALE / 60, 2),
    }
    print(json.dumps(told))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
