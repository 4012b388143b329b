"""One factory for each provisioner of the contract: its world, computers that drive it, and what happens to its machines."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from supervisor.core.provisioning import Machine, Wanted
from tests.fleet.fake import FakeCloud, FakeProvisioner
from tests.fleet.fake_cloud import kill_marked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from supervisor.core.provisioning import Provisioner
    from supervisor.fleet.provisioners.ssh import SshProvisioner


class World(Protocol):
    """The far side of one provisioner. ``computer`` returns one that remembers what lies in its folder, and no more.

    ``silences``: how many of get, put, start and restart are tried on a machine that does not answer; some take minutes.
    ``on``, ``environ``: how `launch` finds it.
    """

    wanted: Wanted
    silences: int
    on: str
    environ: dict[str, str]

    def computer(self, folder: Path) -> Provisioner: ...
    def vanish(self, machine: Machine) -> None: ...
    def foreign(self) -> Machine: ...
    def lives(self, machine: Machine) -> bool: ...
    def silent(self, machine: Machine) -> AbstractContextManager[None]: ...
    def end(self) -> None: ...


class Fake:
    wanted, silences, on, environ = Wanted("T4"), 4, "fake", {}

    def __init__(self, folder: Path) -> None:
        self.cloud = FakeCloud(folder, agent=(sys.executable, "launch.py"))

    def computer(self, folder: Path) -> FakeProvisioner:
        return FakeProvisioner(self.cloud, folder)

    def vanish(self, machine: Machine) -> None:
        self.cloud.kill(machine)

    def foreign(self) -> Machine:
        return self.cloud.other("somebody-else")

    def lives(self, machine: Machine) -> bool:
        return machine.endpoint in {each.endpoint for each in self.cloud.alive()}

    @contextlib.contextmanager
    def silent(self, machine: Machine) -> Iterator[None]:
        self.cloud.cut(machine)
        yield
        self.cloud.mend(machine)

    def end(self) -> None:
        self.cloud.end()


class Folders:
    """Machines that are folders under ``_base``; ``_others`` is another computer."""

    wanted, silences = Wanted(), 4
    _base: Path
    _others: Provisioner

    def vanish(self, machine: Machine) -> None:
        _vanish(self._base, machine)

    def foreign(self) -> Machine:
        return replace(self._others.bring_up("theirs", Wanted()), name="", record="")

    def lives(self, machine: Machine) -> bool:
        return (self._base / machine.endpoint.rpartition("/")[2]).is_dir()


class Ssh(Folders):
    def __init__(self, folder: Path) -> None:
        from tests.fleet.sshd import HOST, RealSshd

        self._sshd = RealSshd(folder / "sshd")
        self.environ = self._sshd.environ
        self._base, self._folder = folder / "it's a $HOME; of machines", folder
        self._where = f"{HOST}:{self._base}"
        self.on = f"ssh:{self._where}"
        self._computers: list[SshProvisioner] = []
        self._others = self.computer(folder / "another computer")

    def computer(self, folder: Path) -> Provisioner:
        from supervisor.fleet.provisioners.ssh import SshProvisioner

        made = SshProvisioner(folder, self._sshd.environ, where=self._where)
        made.traits = replace(made.traits, listings_apart_s=0.0)
        self._computers.append(made)
        return made

    @contextlib.contextmanager
    def silent(self, machine: Machine) -> Iterator[None]:
        from supervisor.fleet.provisioners.ssh_calls import Patience

        del machine
        for each in self._computers:
            each.host.patience = Patience(connect_s=1.0, ask_s=1.5, file_s=1.0, bytes_s_least=1e8)
        with self._sshd.silent():
            yield
        for each in self._computers:
            each.host.patience = Patience()

    def end(self) -> None:
        for each in self._computers:
            each.close()
        self._sshd.down()
        _end_all(self._base)


class Local(Folders):
    on = "local"

    def __init__(self, folder: Path) -> None:
        self._base = folder / "it's a $HOME; of machines"
        self._others = self.computer(folder / "another computer")
        self.environ = {**os.environ, "SUPERVISOR_LOCAL_MACHINES": str(self._base)}

    def computer(self, folder: Path) -> Provisioner:
        from supervisor.fleet.provisioners.local import LocalProvisioner

        made = LocalProvisioner(folder, {**os.environ, "SUPERVISOR_LOCAL_MACHINES": str(self._base)})
        made.traits = replace(made.traits, listings_apart_s=0.0)
        return made

    @contextlib.contextmanager
    def silent(self, machine: Machine) -> Iterator[None]:
        del machine
        away = self._base.rename(self._base.with_name("away"))
        yield
        away.rename(self._base)

    def end(self) -> None:
        _end_all(self._base)


class Colab:
    wanted, silences, on = Wanted("T4"), 1, "colab"

    def __init__(self, folder: Path) -> None:
        from tests.fleet.plane.world import World as ColabWorld

        self._world = ColabWorld(folder)
        self.environ = self._world.environ

    def computer(self, folder: Path) -> Provisioner:
        from supervisor.fleet.provisioners.colab import TRAITS, ColabProvisioner

        return ColabProvisioner(folder, self._world.environ, traits=replace(TRAITS, listings_apart_s=0.1))

    def vanish(self, machine: Machine) -> None:
        self._world.service.reclaim(machine.endpoint)

    def foreign(self) -> Machine:
        return Machine("", self._world.service.foreign().endpoint)

    def lives(self, machine: Machine) -> bool:
        return self._world.service.of(machine.endpoint).listed

    @contextlib.contextmanager
    def silent(self, machine: Machine) -> Iterator[None]:
        from supervisor.fleet.provisioners import colab

        tunnel, patience_s = self._world.service.of(machine.endpoint).tunnel, colab.SMALL_S
        tunnel.mute, colab.SMALL_S = True, 3.0
        yield
        tunnel.mute, colab.SMALL_S = False, patience_s

    def end(self) -> None:
        self._world.end()


def _vanish(base: Path, machine: Machine) -> None:
    mark = json.loads(machine.record)["id"]
    dead = (base / machine.endpoint.rpartition("/")[2]).rename(
        base / f".dead-{mark}"
    )  # at once, whatever writes there now
    kill_marked("SUPERVISOR_FLEET_MACHINE", mark)
    shutil.rmtree(dead, ignore_errors=True)


def _end_all(base: Path) -> None:
    for marker in base.glob("*/.machine.json"):
        kill_marked("SUPERVISOR_FLEET_MACHINE", json.loads(marker.read_text())["id"])


def _none_missing() -> str:
    return ""


def _colab_missing() -> str:
    from tests.fleet.plane.vm_box import missing

    return missing()


def _ssh_missing() -> str:
    from tests.fleet.sshd import missing

    return missing()


WORLDS = {
    "fake": (Fake, _none_missing),
    "ssh": (Ssh, _ssh_missing),
    "local": (Local, _none_missing),
    "colab": (Colab, _colab_missing),
}
