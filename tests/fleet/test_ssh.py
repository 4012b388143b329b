"""Machines on a host that ssh reaches, over a real sshd: what can be wrong with a host, and what its owner is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, until
from supervisor.core.errors import UserError
from supervisor.core.provisioning import MachineError, Wanted
from supervisor.fleet.provisioners.ssh import BASE, SshProvisioner
from tests.fleet.fake_cloud import kill_marked
from tests.fleet.sshd import HOST, RealSshd, missing
from tests.machines.machine import children

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "sshd is here")]
WAIT_S = 400
AGENT = """
import itertools, os, time
for beat in itertools.count(1):
    with open("new", "w") as file:
        file.write(str(beat))
    os.replace("new", "status.json")
    time.sleep(0.05)  # because an agent beats now and then
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[RealSshd]:
    made = RealSshd(tmp_path / "sshd")
    yield made
    made.down()
    for marker in made.home.rglob(".machine.json"):
        kill_marked("SUPERVISOR_FLEET_MACHINE", json.loads(marker.read_text())["id"])


@pytest.fixture
def here(sshd: RealSshd, tmp_path: Path) -> Iterator[SshProvisioner]:
    made = SshProvisioner(tmp_path / "computer", sshd.environ, where=HOST)
    yield made
    made.close()


def trouble(provisioner: SshProvisioner) -> MachineError:
    with pytest.raises(MachineError) as told:
        provisioner.machines()
    return told.value


def test_the_machine_goes_on_while_the_connection_is_lost(sshd: RealSshd, here: SshProvisioner, tmp_path: Path) -> None:
    machine = here.bring_up("night", Wanted())
    folder = sshd.home / BASE.removeprefix("~/") / machine.endpoint.rpartition("/")[2]
    (tmp_path / "launch.py").write_text(AGENT)
    here.put(machine, str(tmp_path / "launch.py"), "launch.py")
    here.start(machine)
    until((folder / "status.json").is_file, WAIT_S)
    sshd.down()
    assert trouble(here).kind == "unreachable"
    beat = int((folder / "status.json").read_text())
    until(lambda: int((folder / "status.json").read_text()) > beat + 2, WAIT_S)
    sshd.up()
    assert here.machines() == [machine]
    here.release(machine)
    assert not list(folder.parent.iterdir())


def test_a_host_that_does_not_let_us_in_wants_a_login_and_says_how(sshd: RealSshd, here: SshProvisioner) -> None:
    sshd.config("wrong_key")
    refused = trouble(here)
    assert (refused.kind, "Permission denied" in str(refused), f"ssh {HOST}" in refused.hint) == ("login", True, True)
    sshd.config("user_key", known_hosts="nobody")
    unknown = trouble(here)
    assert (unknown.kind, "Host key verification failed" in str(unknown)) == ("login", True)


def test_a_host_that_is_not_there_is_unreachable(sshd: RealSshd, here: SshProvisioner, tmp_path: Path) -> None:
    sshd.config("user_key", port=1)
    assert trouble(here).kind == "unreachable"
    nowhere = SshProvisioner(tmp_path / "other", sshd.environ, where="no-such-host.invalid")
    assert trouble(nowhere).kind == "unreachable"
    assert "name" in trouble(nowhere).hint


def test_a_python_that_is_too_old_or_absent_is_told_in_two_lines(sshd: RealSshd, tmp_path: Path) -> None:
    old = sshd.home / "old python"
    old.write_text(
        f"#!/bin/sh\nshift 2\nexec {sys.executable} -c \"import sys; sys.version_info=(3, 8); sys.version='3.8.2'; $1\"\n"
    )
    old.chmod(0o755)
    for python, words in (("~/old python", "3.8.2"), ("/none/python3", "no python3")):
        environ = sshd.environ | {"SUPERVISOR_SSH_PYTHON": python}
        told = trouble(SshProvisioner(tmp_path / "computer", environ, where=HOST))
        assert (told.kind, words in str(told)) == ("denied", True), told
        assert "SUPERVISOR_SSH_PYTHON" in told.hint


def test_what_a_shell_prints_at_its_start_does_not_matter(sshd: RealSshd, here: SshProvisioner) -> None:
    (sshd.home / ".bashrc").write_text('echo "welcome; no newline at the end"; printf x; echo warning >&2\n')
    machine = here.bring_up("noisy", Wanted())
    assert here.machines() == [machine]


def test_hardware_that_the_host_lacks_is_refused_and_nothing_is_made(sshd: RealSshd, here: SshProvisioner) -> None:
    with pytest.raises(MachineError, match="NVIDIA T1000000") as told:
        here.bring_up("big", Wanted("NVIDIA T1000000"))
    assert told.value.kind == "denied"
    assert here.machines() == []


def test_a_disk_that_is_not_mounted_is_not_an_empty_list(sshd: RealSshd, here: SshProvisioner) -> None:
    assert here.machines() == []
    machine = here.bring_up("lost", Wanted())
    base = sshd.home / BASE.removeprefix("~/")
    base.rename(base.with_name("elsewhere"))
    assert trouble(here).kind == "unreachable"
    with pytest.raises(MachineError) as told:
        here.adopt(machine)
    assert told.value.kind == "unreachable"


def test_who_is_killed_in_the_middle_of_making_a_machine_finds_it_again(
    sshd: RealSshd, here: SshProvisioner, tmp_path: Path
) -> None:
    program = (
        "import pathlib, sys; from supervisor.core.provisioning import Wanted; "
        "from supervisor.fleet.provisioners.ssh import SshProvisioner; "
        f"SshProvisioner(pathlib.Path(sys.argv[1]), where={HOST!r}).bring_up('once', Wanted())"
    )
    with sshd.silent():
        first = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "computer")], env=sshd.environ)
        until(lambda: children(first.pid), WAIT_S)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    machine = here.bring_up("once", Wanted())
    assert here.machines() == [machine]


def test_a_release_that_was_cut_in_the_middle_is_finished_by_the_next(sshd: RealSshd, here: SshProvisioner) -> None:
    machine = here.bring_up("cut", Wanted())
    base = sshd.home / BASE.removeprefix("~/")
    (base / machine.endpoint.rpartition("/")[2]).rename(base / f".gone-{json.loads(machine.record)['id']}")
    assert here.machines() == []
    here.release(machine)
    assert not list(base.iterdir())


@pytest.mark.parametrize("where", ["", "-oProxyCommand=x", "two words", "host:relative"])
def test_what_names_no_host_is_refused_in_two_lines(tmp_path: Path, where: str) -> None:
    with pytest.raises(UserError) as told:
        SshProvisioner(tmp_path / "computer", {}, where=where)
    assert (told.value.exit_code, bool(told.value.hint)) == (2, True)


@pytest.mark.parametrize(
    ("python", "folder", "why"),
    [
        ("/nowhere/python3", "", "there is no python3 on"),
        ("too old", "", "3.11 or later is needed"),
        ("", ":/proc/nobody-makes-folders-here", "error: "),
    ],
)
def test_a_launch_on_a_host_that_cannot_serve_ends_at_once(
    sshd: RealSshd, tmp_path: Path, python: str, folder: str, why: str
) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\necho "python-too-old 3.9.2" >&2\nexit 1\n')  # as the check says it under an old one
    old.chmod(0o755)
    named = {"": sys.executable, "too old": str(old)}.get(python, python)
    (tmp_path / "train.py").write_text("print('trained')\n")
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "launch", "train.py", "--on", f"ssh:{HOST}{folder}", "--no-install"], cwd=tmp_path,
        env={**sshd.environ, "SUPERVISOR_SSH_PYTHON": named, "SUPERVISOR_RUN_LOCAL": str(tmp_path / "local"), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert why in done.stderr
    assert "\n  try: " in done.stderr
