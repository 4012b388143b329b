"""A machine of the fleet on this computer, with a real agent, and a pump in place of the way between it and home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.engine.clock import BootClock
from supervisor.engine.place import RunPlace
from supervisor.fleet.parcels import ParcelError
from supervisor.fleet.relay import HomeRun
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from random import Random

    from supervisor.core.checkpoint import CheckpointId
    from supervisor.fleet.parcels import Parcel

ROOT = Path(__file__).resolve().parents[2]
RUN = RunPlace("toy")
WAIT_S_MAX = 400.0
LOOK_EVERY_S = 0.05


@dataclass
class Machine:
    """A machine's folder, and the agents that were started there."""

    folder: Path
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def consign(self, seed: list[dict[str, object]], *, arguments: list[str], **more: object) -> None:
        """Put what home sends beside the parcels: the project and, at last, the job."""
        project = self.folder / "project" / "trainers"
        project.mkdir(parents=True)
        shutil.copy(ROOT / "trainers/toy.py", project)
        job = {
            "schema": 1, "name": RUN.name, "script": "trainers/toy.py", "arguments": arguments,
            "options": ["--save-every", "20steps", "--no-install"], "seed": seed, **more,
        }  # fmt: skip
        (self.folder / "job.json").write_text(json.dumps(job))

    def put(self, parcel: Parcel) -> None:
        """Put a parcel into the inbox, whole under its name."""
        to = self.folder / parcel.name
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_suffix(".part")
        shutil.copy(parcel.file, beside)
        beside.replace(to)

    def start(self) -> subprocess.Popen[bytes]:
        """Start an agent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "agent.log").open("ab") as log:
            self.agents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "supervisor", "agent", str(self.folder)],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return self.agents[-1]

    @property
    def status(self) -> dict[str, Any]:
        """What the agent tells; nothing while it has told nothing."""
        try:
            told: dict[str, Any] = json.loads((self.folder / "status.json").read_bytes())
        except FileNotFoundError:
            return {}
        return told

    def kill_agent(self) -> None:
        """End the agent as nothing can prevent."""
        self.agents[-1].kill()
        self.agents[-1].wait()

    def supervisors(self) -> list[int]:
        """Return the processes of this machine that are not agents: supervisors and trainers."""
        mine = {agent.pid for agent in self.agents}
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) not in mine:
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    if os.fsencode(self.folder) in command and b"\0-c\0" not in command:
                        found.append(int(process.name))
        return found

    def reclaim(self) -> None:
        """Take the machine away: all its processes at once, and its disk."""
        for agent in self.agents:
            agent.kill()
            agent.wait()
        while pids := self.supervisors():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_EVERY_S)
        shutil.rmtree(self.folder)


class Pump:
    """Carries parcels home and mail back. With ``chance`` it does that badly: lost, doubled, cut short, out of order."""

    def __init__(self, home: HomeRun, folder: Path, chance: Random | None = None) -> None:
        self.home, self.folder, self.chance = home, folder, chance
        self.merged: list[Any] = []
        self.refused = 0
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, machine: Machine) -> dict[str, Any]:
        """Look at the machine once."""
        status = machine.status
        listed = list(status.get("parcels", ()))
        if self.chance is not None:
            self.chance.shuffle(listed)
            listed = [each for each in listed if self.chance.random() > 0.3]
            listed += [each for each in listed if self.chance.random() < 0.3]
        for each in listed:
            self._fetch(machine, each)
        for parcel in self.home.mail():
            if self.chance is not None and self.chance.random() < 0.2:
                continue
            machine.put(parcel)
            if self.chance is None or self.chance.random() < 0.8:
                self.home.delivered(parcel)
        return status

    def _fetch(self, machine: Machine, told: dict[str, Any]) -> None:
        local = self.folder / "fetched"
        try:
            shutil.copy(machine.folder / told["file"], local)
        except FileNotFoundError:
            return  # acknowledged meanwhile
        if self.chance is not None and self.chance.random() < 0.2:
            body = bytearray(local.read_bytes())
            at = self.chance.randrange(len(body))
            local.write_bytes(body[:at] if self.chance.random() < 0.5 else body[:at] + b"\0" + body[at + 1 :] + b"x")
        try:
            self.merged.append(self.home.merge(local, told["sha256"]))
        except ParcelError:
            self.refused += 1


def home(folder: Path) -> HomeRun:
    """Return the relay's end at home, as a controller makes it anew after each of its deaths."""
    return HomeRun(FolderStore(str(folder / "runs")), RUN, folder / "state", BootClock())


def begin(pump: Pump, machine: Machine, *, arguments: list[str], **more: object) -> CheckpointId | None:
    """Seed a new machine and start its agent; return the checkpoint from which it goes on."""
    pump.home.begin_machine()
    seed = pump.home.seed()
    for parcel in seed.parcels:
        machine.put(parcel)
    machine.consign(seed.index(), arguments=arguments, **more)
    pump.home.forget_seed()
    machine.start()
    return seed.checkpoint
