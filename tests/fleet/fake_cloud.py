"""The far side of the fake provisioner: its machines, their disks and processes, and the faults it was told to have."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.provisioning import Machine, MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "FAKE_CLOUD_MACHINE"
CHILDREN: list[subprocess.Popen[bytes]] = []
"""Kept, because Python complains of a child that it forgets while it runs."""


class FakeCloud:
    """The far side. All of it lies in ``folder``; every change is made whole under one lock."""

    def __init__(self, folder: Path, agent: Sequence[str] = ()) -> None:
        self.folder, self.agent = folder, tuple(agent)
        (folder / "disks").mkdir(parents=True, exist_ok=True)

    def alive(self) -> list[Machine]:
        with self.held() as account:
            return [machine_of(entry) for entry in account["machines"].values()]

    def disk(self, machine: Machine | str) -> Path:
        return self.folder / "disks" / _endpoint(machine)

    def calls(self) -> list[tuple[str, str]]:
        return self._log("calls.jsonl")

    def answered(self) -> list[tuple[str, str]]:
        return self._log("answered.jsonl")

    def starts(self, machine: Machine) -> int:
        with self.held() as account:
            return int(account["starts"].get(machine.endpoint, 0))

    def kill(self, machine: Machine) -> None:
        with self.held() as account:
            self._end(account, machine.endpoint)

    def end(self) -> None:
        with self.held() as account:
            for endpoint in list(account["machines"]):
                self._end(account, endpoint)

    def other(self, endpoint: str) -> Machine:
        with self.held() as account:
            account["machines"][endpoint] = entry_of("", endpoint, "")
            self.disk(endpoint).mkdir()
            return machine_of(account["machines"][endpoint])

    def hide(self, machine: Machine, listings: int) -> None:
        with self.held() as account:
            account["machines"][machine.endpoint]["hidden"] = listings

    def cut(self, machine: Machine) -> None:
        with self.held() as account:
            account["machines"][machine.endpoint]["cut"] = True

    def mend(self, machine: Machine) -> None:
        with self.held() as account:
            account["machines"][machine.endpoint]["cut"] = False

    def forget(self, state: Path) -> None:
        shutil.rmtree(state, ignore_errors=True)

    def units(self, units: float | None, per_hour: float | None = None) -> None:
        with self.held() as account:
            account["units"], account["per_hour"] = units, per_hour

    def fail(self, call: str, kind: str, *, when: str = "before", times: int = 1, skip: int = 0) -> None:
        with self.held() as account:
            account["faults"].append({"call": call, "kind": kind, "when": when, "times": times, "skip": skip})

    @contextlib.contextmanager
    def held(self) -> Iterator[dict[str, Any]]:
        """The account under its lock; what is changed in it is kept, whole, unless an error is raised."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = self.folder / "account.json"
            empty = {"machines": {}, "starts": {}, "faults": [], "units": None, "per_hour": None, "made": 0}
            account = json.loads(file.read_text()) if file.exists() else empty
            yield account
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(account))
            fresh.replace(file)

    def note(self, file: str, call: str, about: str) -> None:
        with (self.folder / file).open("a") as log:
            log.write(json.dumps([call, about]) + "\n")

    def meet(self, call: str, when: str) -> None:
        """Meet the fault that is due at this point, if there is one."""
        with self.held() as account:
            kind = _due(account["faults"], call, when)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind:
            raise MachineError(f"the fake cloud was told to fail: {call}", kind)

    def run(self, account: dict[str, Any], endpoint: str) -> None:
        """Run the agent where none runs."""
        entry = account["machines"][endpoint]
        if entry["pid"] and _runs(entry["pid"]):
            return
        account["starts"][endpoint] = account["starts"].get(endpoint, 0) + 1
        if self.agent:
            with (self.disk(endpoint) / "agent.err").open("a") as output:
                child = subprocess.Popen(
                    self.agent,
                    cwd=self.disk(endpoint),
                    env={**os.environ, MARK: str(self.disk(endpoint))},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            CHILDREN.append(child)
            entry["pid"] = child.pid
        else:
            entry["pid"] = -1

    def halt(self, entry: dict[str, Any]) -> None:
        if entry["pid"] > 0:
            kill_marked(MARK, str(self.disk(entry["endpoint"])))
        entry["pid"] = 0

    def _end(self, account: dict[str, Any], endpoint: str) -> None:
        self.halt(account["machines"].pop(endpoint))
        shutil.rmtree(self.disk(endpoint))

    def _log(self, file: str) -> list[tuple[str, str]]:
        path = self.folder / file
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def entry_of(name: str, endpoint: str, hardware: str) -> dict[str, Any]:
    return {"name": name, "endpoint": endpoint, "hardware": hardware, "hidden": 0, "cut": False, "pid": 0}


def machine_of(entry: dict[str, Any]) -> Machine:
    record = json.dumps({"made as": entry["name"], "at": entry["endpoint"]}) if entry["name"] else ""
    return Machine(entry["name"], entry["endpoint"], entry["hardware"], record)


def _endpoint(machine: Machine | str) -> str:
    return machine if isinstance(machine, str) else machine.endpoint


def _due(faults: list[dict[str, Any]], call: str, when: str) -> str:
    for fault in faults:
        if fault["call"] != call or fault["when"] != when or not fault["times"]:
            continue
        if fault["skip"]:
            fault["skip"] -= 1
            continue
        fault["times"] -= 1
        return str(fault["kind"])
    return ""


def _runs(pid: int) -> bool:
    if pid < 0:
        return True
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill_marked(variable: str, value: str) -> None:
    """Kill everything that a machine runs: its agent and all that inherited the mark, until none is left."""
    word = f"{variable}={value}".encode()
    while found := [int(each.name) for each in Path("/proc").iterdir() if word in _environment(each)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:  # not a process, or none any more
        return []
