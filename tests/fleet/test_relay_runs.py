"""Real agents and supervisors: machines are taken away, agents killed, parcels mistreated, and the run ends bit for bit the same."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from supervisor.core.checkpoint import Verdict
from supervisor.engine import checkpoints, claims, steplog
from supervisor.stores.folder import FolderStore
from tests.fleet.relays import ROOT, RUN, Machine, Pump, begin, home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.core.checkpoint import CheckpointId

pytestmark = pytest.mark.slow
TOY = ["--steps", "300", "--step-ms", "20", "--state-mb", "1", "--seed", "3"]


class Watcher:
    """Sees that "safe" is never said on a machine of what home does not hold whole."""

    def __init__(self, pump: Pump, folder: Path) -> None:
        self.pump, self.folder = pump, folder
        self.whole: dict[CheckpointId, bool] = {}

    def look(self, machine: Machine) -> None:
        told = (machine.status.get("run") or {}).get("checkpoints", {}).get("durable")
        if told is None:
            return
        newest = self.pump.home.newest()
        assert newest is not None
        assert newest.step >= told, f"step {told} is called safe, and home has {newest}"
        if newest not in self.whole:
            store = FolderStore(str(self.folder / "runs"))
            found = max(checkpoints.find(store, RUN), key=lambda each: each.id)
            verdict = checkpoints.bring(store, RUN, found, self.folder / "brought")[0].verdict
            self.whole[newest] = verdict is Verdict.WHOLE
        assert self.whole[newest]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    machines: list[Machine] = []

    def made(name: str) -> Machine:
        machines.append(Machine(tmp_path / name))
        return machines[-1]

    yield made
    for machine in machines:
        if machine.folder.exists():
            machine.reclaim()


def verb(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product beside the home store, on this computer."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_LOCAL": str(folder / "local")}
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *words, "--store", str(folder / "runs")],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def test_three_machines_with_every_trouble_end_like_one_without_any(tmp_path: Path, fleet):
    chance = Random(5)
    pump = Pump(home(tmp_path / "home"), tmp_path / "pump", chance)
    watcher = Watcher(pump, tmp_path / "home")
    for number in (1, 2, 3):
        machine = fleet(f"machine-{number}")
        begun_at = begin(pump, machine, arguments=TOY)
        assert (begun_at is None) == (number == 1)
        _serve(pump, watcher, machine, to_the_end=number == 3)
        if number < 3:
            machine.reclaim()
    assert machine.agents[-1].wait(400) == 0
    assert machine.status["exit_code"] == 0
    assert pump.refused > 0
    _ended_like_an_uninterrupted_one(tmp_path)
    assert len(claims.ranks(FolderStore(str(tmp_path / "home/runs")), RUN)) == 3
    verified = verb(tmp_path / "home", "checkpoints", "verify")
    assert verified.returncode == 0, verified.stdout
    assert "4 verified" in verified.stdout, "three of the last machine, and the newest that the one before it brought"


def _serve(pump: Pump, watcher: Watcher, machine: Machine, *, to_the_end: bool) -> None:
    """Pump until home has a new checkpoint, or until the run has ended; agents and controllers die now and then."""
    assert pump.chance is not None
    begun_at = pump.home.newest()

    def there() -> bool:
        watcher.look(machine)
        status = pump.once(machine)
        if pump.chance.random() < 0.06:
            machine.kill_agent()
            machine.start()
        if pump.chance.random() < 0.06:
            pump.home = home(pump.folder.parent / "home")
        return status.get("phase") == "done" if to_the_end else pump.home.newest() != begun_at

    until(there)


def _ended_like_an_uninterrupted_one(folder: Path) -> None:
    quiet = folder / "quiet"
    quiet.mkdir()
    script = str(ROOT / "trainers/toy.py")
    toy = [arg if arg != "20" else "0" for arg in TOY]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_LOCAL": str(quiet / "local")}
    subprocess.run(
        [sys.executable, "-m", "supervisor", "start", script, "--store", str(quiet / "runs"), "--no-install", "--", *toy],
        cwd=quiet, env=environ, check=True, timeout=400, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    stores = [FolderStore(str(folder / name / "runs")) for name in ("home", "quiet")]
    final = []
    for store in stores:
        newest = max(checkpoints.find(store, RUN), key=lambda each: each.id)
        manifest = checkpoints.read_manifest(store, newest).manifest
        assert manifest is not None
        assert manifest.id.step == 300
        wanted = {"state-00000.safetensors", "state.json", "rng.json"}
        final.append({entry.name: (entry.bytes, entry.digest) for entry in manifest.files if entry.name in wanted})
    assert final[0] == final[1]
    assert len(final[0]) == 3
    assert list(steplog.joined(stores[0], RUN)) == list(steplog.joined(stores[1], RUN))


def test_the_verbs_at_home_tell_the_truth_while_the_fleet_runs_and_stop_ends_it(tmp_path: Path, fleet):
    pump = Pump(home(tmp_path / "home"), tmp_path / "pump")
    machine = fleet("machine")
    begin(pump, machine, arguments=["--steps", "100000", "--step-ms", "10", "--state-mb", "0.1"])
    until(lambda: pump.once(machine) and pump.home.newest())
    told = verb(tmp_path / "home", "status").stdout
    assert "session 1 (local) on another machine" in told
    assert "safe: step " in told
    listed = verb(tmp_path / "home", "checkpoints").stdout
    assert "relay" in listed
    assert " safe  " in listed
    assert verb(tmp_path / "home", "checkpoints", "verify").returncode == 0
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_LOCAL": str(tmp_path / "home/local")}
    stopping = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "stop", "--store", str(tmp_path / "home/runs")],
        cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: pump.once(machine).get("phase") == "done")
    said, _ = stopping.communicate(timeout=400)
    assert stopping.returncode == 0, said
    assert machine.agents[-1].wait(400) == 143
    newest = pump.home.newest()
    assert newest is not None
    assert "session 1 ended: stopped on request" in said
    assert f"safe on your computer: step {newest.step:,}" in said
    assert "CANCELLED" in verb(tmp_path / "home", "status").stdout


def test_the_supervisor_outlives_its_agents_and_its_end_is_found(tmp_path: Path, fleet):
    pump = Pump(home(tmp_path / "home"), tmp_path / "pump")
    machine = fleet("machine")
    begin(pump, machine, arguments=["--steps", "60", "--step-ms", "20", "--state-mb", "0.1"])
    until(lambda: (machine.status.get("run") or {}).get("step"))
    machine.kill_agent()
    alive = machine.supervisors()
    assert alive
    machine.start()
    second = machine.start()  # waits for the one before
    until(lambda: pump.once(machine).get("run", {}).get("checkpoints", {}).get("submitted"))
    with suppress(ProcessLookupError):
        for pid in alive:
            os.kill(pid, 0)
    until(lambda: pump.once(machine).get("phase") == "done")
    assert [agent.wait(400) for agent in machine.agents[-2:]] == [0, 0]
    assert second.returncode == 0
    assert len(claims.ranks(FolderStore(str(tmp_path / "home/runs")), RUN)) == 1
