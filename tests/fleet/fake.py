"""A provisioner without machines, for the controller's tests: it keeps the contract, can be steered, and survives a killed controller.

Two folders: the *cloud* (the far side: machines and their disks, which outlive every controller) and the *state* (what
this computer remembers). Another process that opens the same two folders sees the same machines::

    cloud = FakeCloud(tmp_path / "cloud", agent=(sys.executable, "-m", "supervisor", "agent", "."))
    provisioner = FakeProvisioner(cloud, tmp_path / "state")        # the port: core/provisioning.py

    cloud.alive()                      # [Machine, ...] as they really are, others' too (name "" for those)
    cloud.disk(machine)                # Path of the machine's folder: write its status.json, read what was put
    cloud.calls()                      # [("bring_up", "toy-1"), ...] every call of every controller, in order, at its beginning
    cloud.answered()                   # the same, only those that came back without an error
    cloud.starts(machine)              # how often ``start`` really started the agent
    cloud.kill(machine)                # the machine dies: its processes are killed, its disk is gone, no listing has it
    cloud.end()                        # every machine dies (for the end of a test)
    cloud.other("gpu-x")               # a machine of the account that is not ours
    cloud.hide(machine, listings=2)    # absent from so many listings, though it lives
    cloud.cut(machine) / cloud.mend(machine)   # put, get, start, restart, release raise "unreachable"; listings still show it
    cloud.forget(state)                # this computer forgets all machines: listings show them with the name ""
    cloud.units(12.5, per_hour=1.8)    # what balance() says
    cloud.fail("bring_up", "refused", times=2)                  # kind of MachineError; nothing is done
    cloud.fail("bring_up", "unreachable", when="after")         # it is done, and the answer is lost
    cloud.fail("put", "kill", when="before" | "after", skip=3)  # SIGKILL to the calling controller, at its 4th put from now

``agent``: the command that ``start`` runs in the machine's folder, in a process session of its own; empty: nothing runs,
and ``start`` is only counted. A fault is used up by its ``times``, whichever controller meets it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

from supervisor.core.provisioning import Balance, FleetTraits, Machine, MachineError, NoSuchFile
from tests.fleet.fake_cloud import FakeCloud, entry_of, machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from supervisor.core.provisioning import Wanted

__all__ = ["FakeCloud", "FakeProvisioner"]

TRAITS = FleetTraits("the fake cloud", poll_s=0.05, listings_apart_s=0.01)


class FakeProvisioner:
    name = "fake"

    def __init__(self, cloud: FakeCloud, state: Path, traits: FleetTraits = TRAITS) -> None:
        self.cloud, self.state, self.traits = cloud, state, traits

    def balance(self) -> Balance:
        with self._call("balance") as account:
            return Balance(account["units"], account["per_hour"])

    def machines(self) -> Sequence[Machine]:
        known, listed = self._known(), []
        with self._call("machines") as account:
            for endpoint, entry in account["machines"].items():
                if entry["hidden"] > 0:
                    entry["hidden"] -= 1
                    continue
                machine = machine_of(entry)
                listed.append(machine if endpoint in known else dataclasses.replace(machine, name="", record=""))
        return listed

    def bring_up(self, name: str, wanted: Wanted) -> Machine:
        with self._call("bring_up", name) as account:
            for endpoint, entry in account["machines"].items():
                if entry["name"] == name and endpoint in self._known():
                    return machine_of(entry)
            account["made"] += 1
            endpoint = f"fake-{account['made']:03}"
            self._remember(endpoint)
            account["machines"][endpoint] = entry_of(name, endpoint, wanted.hardware)
            self.cloud.disk(endpoint).mkdir()
            return machine_of(account["machines"][endpoint])

    def adopt(self, machine: Machine) -> Machine:
        with self._call("adopt", machine.name) as account:
            if not machine.record:
                raise MachineError(f"{machine.endpoint} is not a machine of ours", "failed")
            entry = account["machines"].get(machine.endpoint)
            if entry is None or machine_of(entry).record != machine.record:
                raise MachineError(f"there is no machine {machine.endpoint}", "gone")
            self._remember(machine.endpoint)
            return machine_of(entry)

    def put_all(self, machine: Machine, files: Sequence[tuple[str, str]]) -> None:
        for local, path in files:
            self.put(machine, local, path)

    def put(self, machine: Machine, local: str, path: str) -> None:
        with self._on(machine, "put", path):
            place = self.cloud.disk(machine) / _inside(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f".{place.name}.part")
            shutil.copyfile(local, part)
            part.replace(place)

    def get(self, machine: Machine, path: str, local: str) -> None:
        with self._on(machine, "get", path):
            try:
                shutil.copyfile(self.cloud.disk(machine) / _inside(path), local)
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchFile(f"{machine.name} has no {path}") from None

    def start(self, machine: Machine) -> None:
        with self._on(machine, "start", machine.name) as account:
            self.cloud.run(account, machine.endpoint)

    def attend(self, machine: Machine) -> None:
        with self._on(machine, "attend", machine.name):
            pass

    def restart(self, machine: Machine) -> None:
        with self._on(machine, "restart", machine.name) as account:
            self.cloud.halt(account["machines"][machine.endpoint])

    def release(self, machine: Machine) -> None:
        with self._call("release", machine.name) as account:
            entry = account["machines"].get(machine.endpoint)
            if entry is not None and entry["cut"] and machine.record:
                raise MachineError(f"{machine.endpoint} does not answer")
            if entry is not None and machine.record and machine_of(entry).record == machine.record:
                self.cloud.halt(account["machines"].pop(machine.endpoint))
                shutil.rmtree(self.cloud.disk(machine))
            elif entry is not None:
                raise MachineError(f"{machine.endpoint} is not a machine of ours", "failed")

    @contextlib.contextmanager
    def _call(self, call: str, about: str = "") -> Iterator[dict[str, Any]]:
        self.cloud.note("calls.jsonl", call, about)
        self.cloud.meet(call, "before")
        with self.cloud.held() as account:
            yield account
        self.cloud.meet(call, "after")
        self.cloud.note("answered.jsonl", call, about)

    @contextlib.contextmanager
    def _on(self, machine: Machine, call: str, about: str) -> Iterator[dict[str, Any]]:
        with self._call(call, about) as account:
            entry = account["machines"].get(machine.endpoint)
            if not machine.record:
                raise MachineError(f"{machine.endpoint} is not a machine of ours", "failed")
            if entry is None:
                raise MachineError(f"{machine.endpoint} is gone", "gone")
            if entry["cut"] or machine.endpoint not in self._known():
                raise MachineError(f"{machine.endpoint} does not answer")
            yield account

    def _known(self) -> set[str]:
        return {file.name for file in self.state.iterdir()} if self.state.is_dir() else set()

    def _remember(self, endpoint: str) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / endpoint).touch()


def _inside(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise MachineError(f"{path} is not a path inside the machine's folder", "failed")
    return path
