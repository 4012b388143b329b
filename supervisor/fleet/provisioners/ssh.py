"""Machines on a host that ssh reaches: each is a folder there, with processes of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import uuid
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.provisioning import Balance, FleetTraits, Machine, MachineError, NoSuchFile
from supervisor.fleet.provisioners.ssh_calls import Patience, SshHost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.provisioning import Wanted

BASE = "~/.training-supervisor-machines"


class SshProvisioner:
    """``where``: HOST or HOST:FOLDER, as in ``--on ssh:HOST``; ``folder``: ours on this computer, kept.

    Machines are told apart by a random id in their marker; ours are those whose marker names this computer's
    ``owner`` and those that were adopted, so that several computers can use one host.
    """

    name = "ssh"

    def __init__(
        self, folder: Path, environ: Mapping[str, str] | None = None, *, where: str, patience: Patience | None = None
    ) -> None:
        host, _, base = where.partition(":")
        if not host or host.startswith("-") or any(not each.isprintable() or each.isspace() for each in host):
            raise UserError(f"ssh:{where} names no host", "write --on ssh:HOST, with the name that `ssh HOST` takes", 2)
        self._base = base or BASE
        if not self._base.startswith(("/", "~/")):
            raise UserError(
                f"{base} is not a folder's full name", "write --on ssh:HOST:/folder or ssh:HOST:~/folder", 2
            )
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.host = SshHost(folder, host, os.environ if environ is None else environ, patience or Patience())
        self.traits = FleetTraits(host, poll_s=5.0, listings=2, listings_apart_s=2.0)

    def balance(self) -> Balance:
        """Return that nobody counts units here."""
        return Balance()

    def machines(self) -> Sequence[Machine]:
        """Return all machines of the host's user; those that this computer does not know have the name ""."""
        answer = self._ask("machines")
        if not answer["base"] and (self._folder / "made").exists():
            raise MachineError(
                f"{self._base} is not on {self.host.host}, which held machines: is that disk mounted?", "unreachable",
                "if you have removed it yourself, make an empty folder there",
            )  # fmt: skip
        known = {self._owner(), *self._adopted()}
        return [
            self._machine(each, named=not known.isdisjoint((each["owner"], each["id"]))) for each in answer["machines"]
        ]

    def bring_up(self, name: str, wanted: Wanted) -> Machine:
        """Return the machine of this name, which is made if there is none."""
        owner, fresh = self._owner(), uuid.uuid4().hex
        marker = {"id": fresh, "owner": owner, "name": name, "hardware": wanted.hardware}
        answer = self._ask("make", folder=_folder(name, owner), hardware=wanted.hardware, marker=marker)
        if answer["owner"] != owner:
            raise MachineError(f"{answer['folder']} on {self.host.host} is there and has no marker of ours", "failed")
        (self._folder / "made").touch()
        return self._machine(answer)

    def adopt(self, machine: Machine) -> Machine:
        """Make a machine known again that this computer has forgotten."""
        adopted = self._machine(self._on(machine, "check"))
        place = self._folder / "adopted" / _id(adopted)
        place.parent.mkdir(exist_ok=True)
        place.touch()
        (self._folder / "made").touch()
        return adopted

    def put(self, machine: Machine, local: str, path: str) -> None:
        """Bring a file to the machine; it gets its name there when it is whole, by its digest."""
        data = Path(local).read_bytes()
        if len(data) > self.traits.file_bytes_max:
            raise MachineError(f"{path} is too large for one file: {len(data)} bytes", "failed")
        digest = hashlib.sha256(data).hexdigest()
        self._on(machine, "put", data, path=_inside(path), bytes=len(data), sha256=digest)

    def put_all(self, machine: Machine, files: Sequence[tuple[str, str]]) -> None:
        """Bring files to the machine, in their order; a call over the shared connection takes next to nothing."""
        for local, path in files:
            self.put(machine, local, path)

    def get(self, machine: Machine, path: str, local: str) -> None:
        """Fetch a file; it gets its name here when all of it is there."""
        most = 0 if path.endswith(".json") else self.traits.file_bytes_max
        _, data = self._call("get", self._meant(machine) | {"path": _inside(path)}, most_bytes=most)
        with tempfile.NamedTemporaryFile(dir=Path(local).absolute().parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(local)

    def start(self, machine: Machine) -> None:
        """Start the agent; nothing is done where it runs."""
        self._on(machine, "start")

    def attend(self, machine: Machine) -> None:
        """Nothing has to wait with the agent here."""

    def restart(self, machine: Machine) -> None:
        """End all that the agent has started; the machine's files stay."""
        self._on(machine, "restart")

    def release(self, machine: Machine) -> None:
        """End all that the machine runs and remove its folder; return when it is off the list."""
        listed = next((each for each in self.machines() if each.endpoint == machine.endpoint), None)
        if listed is not None and not machine.record:
            raise MachineError(f"{machine.endpoint} is not ours: it is left alone", "failed", "it is yours to remove")
        if not machine.record:
            return
        self._on(machine, "release")
        if any(_id(each) == _id(machine) for each in self.machines()):
            raise MachineError(f"{machine.endpoint} is still there after its release")
        (self._folder / "adopted" / _id(machine)).unlink(missing_ok=True)

    def close(self) -> None:
        """End the connection that the calls share; it would end by itself after a minute."""
        self.host.close()

    def _ask(self, verb: str, **words: Any) -> dict[str, Any]:
        return self._call(verb, words)[0]

    def _on(self, machine: Machine, verb: str, body: bytes = b"", **words: Any) -> dict[str, Any]:
        return self._call(verb, self._meant(machine) | words, body)[0]

    def _call(
        self, verb: str, words: Mapping[str, Any], body: bytes = b"", most_bytes: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        answer, data = self.host.ask({"verb": verb, "base": self._base, **words}, body, most_bytes)
        if (kind := answer.get("kind")) == "absent":
            raise NoSuchFile(f"{self.host.host}: {answer['words']}")
        if kind:
            raise MachineError(f"{self.host.host}: {answer['words']}", kind)
        return answer, data

    def _meant(self, machine: Machine) -> dict[str, Any]:
        if not machine.record:
            raise MachineError(f"{machine.endpoint} is not ours: there is no record of it", "failed")
        record = json.loads(machine.record)
        if (record["host"], record["base"]) != (self.host.host, self._base):
            raise MachineError(f"{machine.endpoint} is not on {self.host.host}:{self._base}", "failed")
        return {"folder": record["folder"], "id": record["id"]}

    def _machine(self, answer: Mapping[str, Any], *, named: bool = True) -> Machine:
        endpoint = f"{self.host.host}:{self._base}/{answer['folder']}"
        if not named:
            return Machine("", endpoint, answer["hardware"])
        record = {"host": self.host.host, "base": self._base, "folder": answer["folder"], "id": answer["id"]}
        return Machine(answer["name"], endpoint, answer["hardware"], json.dumps(record))

    def _owner(self) -> str:
        """Return the id of this computer's state, which is drawn once, whole, however many ask at once."""
        file = self._folder / "owner"
        if not file.exists():
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as fresh:
                fresh.write(uuid.uuid4().hex)
            with contextlib.suppress(FileExistsError):
                os.link(fresh.name, file)
            Path(fresh.name).unlink()
        return file.read_text()

    def _adopted(self) -> list[str]:
        place = self._folder / "adopted"
        return [entry.name for entry in place.iterdir()] if place.is_dir() else []


def _folder(name: str, owner: str) -> str:
    """Return the folder of our machine of this name: the same at every call, and another for every computer."""
    said = "".join(each if each.isascii() and (each.isalnum() or each in "-_") else "-" for each in name)[:40]
    return f"{said.lstrip('-') or 'machine'}.{hashlib.sha256(f'{owner} {name}'.encode()).hexdigest()[:10]}"


def _id(machine: Machine) -> str:
    return str(json.loads(machine.record)["id"]) if machine.record else ""


def _inside(path: str) -> str:
    inner = PurePosixPath(path)
    if inner.is_absolute() or ".." in inner.parts or not inner.parts:
        raise MachineError(f"{path} is not a path inside the machine's folder", "failed")
    return str(inner)
