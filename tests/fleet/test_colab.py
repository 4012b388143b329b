"""Colab's machines through the real command line, against a control plane on this computer and machines of namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from supervisor.core.provisioning import MachineError, NoSuchFile, Wanted
from supervisor.fleet.provisioners import colab, colab_account, colab_cells
from supervisor.fleet.reporting import watched
from tests.fleet.plane.vm_box import missing
from tests.fleet.plane.world import World, a_colab_world
from tests.machines.machine import inhabitants, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.provisioning import Machine
    from supervisor.fleet.provisioners.colab import ColabProvisioner as Colab

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "machines can be made")]
WAIT_S = 400
BEATS = """
import itertools, json, os, time
for beat in itertools.count(1):
    with open("new.json", "w") as file:
        json.dump({"beat": beat, "pid": os.getpid()}, file)
    os.replace("new.json", "status.json")
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_colab_world(tmp_path_factory.mktemp("colab")) as made:
        yield made


@pytest.fixture
def colab_here(world: World, tmp_path: Path) -> Colab:
    """Return the provisioner of a computer that knows nothing yet."""
    return world.computer(tmp_path / "computer")


@pytest.fixture(scope="module")
def here(world: World, tmp_path_factory: pytest.TempPathFactory) -> Colab:
    """The computer that has the machine which tests share."""
    return world.computer(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def vm(here: Colab) -> Machine:
    """A machine that tests leave as it was."""
    return here.bring_up("shared", Wanted("T4"))


@pytest.fixture(autouse=True)
def nothing_is_left(vm: Machine, world: World) -> Iterator[None]:
    before = set(world.service.assigned)
    yield
    for each in set(world.service.assigned) - before:
        each.end()


def test_an_upload_that_was_cut_is_sent_again(here: Colab, vm: Machine, world: World, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(os.urandom(100_000))
    world.service.of(vm.endpoint).tunnel.cut_uploads = 1
    here.put(vm, str(tmp_path / "sent"), "inbox/parcel")
    content = world.service.of(vm.endpoint).box.content
    assert (content / "training-supervisor/inbox/parcel").read_bytes() == (tmp_path / "sent").read_bytes()
    world.service.of(vm.endpoint).tunnel.cut_uploads = 1
    (tmp_path / "large").write_bytes(os.urandom(300_000))
    names = ("sent", "large", "sent")
    here.put_all(vm, [(str(tmp_path / name), f"inbox/{number}") for number, name in enumerate(names)])
    for number, name in enumerate(names):
        assert (content / f"training-supervisor/inbox/{number}").read_bytes() == (tmp_path / name).read_bytes()
    assert {path.name for path in content.iterdir()} == {"training-supervisor"}


def test_an_agent_outlives_the_call_that_started_it_and_is_started_again_when_it_died(
    here: Colab, vm: Machine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "launch.py").write_text(BEATS)
    here.put(vm, str(tmp_path / "launch.py"), "launch.py")
    here.start(vm)
    box, notes = world.service.of(vm.endpoint).box, here._of(vm)
    status = box.content / "training-supervisor/status.json"
    until(status.is_file, WAIT_S)
    first = json.loads(status.read_text())
    notes.detach()
    until(lambda: json.loads(status.read_text())["beat"] > first["beat"] + 2, WAIT_S)
    here.start(vm)  # a new call joins the agent that lives
    assert json.loads(status.read_text())["pid"] == first["pid"]
    os.kill(next(pid for pid in inhabitants(box.first) if words_of(pid).endswith(b"launch.py\0")), signal.SIGKILL)
    until(notes.over, WAIT_S)
    here.start(vm)
    until(lambda: json.loads(status.read_text())["pid"] != first["pid"], WAIT_S)
    here.restart(vm)


def test_a_cell_waits_with_the_agent_again_after_its_kernel_died(
    here: Colab, vm: Machine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "launch.py").write_text(BEATS)
    here.put(vm, str(tmp_path / "launch.py"), "launch.py")
    here.start(vm)
    box = world.service.of(vm.endpoint).box
    folder = box.content / "training-supervisor"
    until(lambda: (folder / "status.json").is_file() and watched(folder), WAIT_S)
    first = json.loads((folder / "status.json").read_text())
    for pid in inhabitants(box.first):
        if b"ipykernel" in words_of(pid):
            os.kill(pid, signal.SIGKILL)
    until(lambda: watched(folder) is False, WAIT_S)
    here.attend(vm)
    until(lambda: watched(folder), WAIT_S)
    assert json.loads((folder / "status.json").read_text())["pid"] == first["pid"], "the agent trained on all the time"
    here.restart(vm)


def test_a_sweep_that_was_given_up_and_runs_late_does_not_end_the_agent_that_was_launched_after_it(
    here: Colab, vm: Machine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "launch.py").write_text(BEATS)
    here.put(vm, str(tmp_path / "launch.py"), "launch.py")
    here.start(vm)
    status, notes = world.service.of(vm.endpoint).box.content / "training-supervisor/status.json", here._of(vm)
    until(status.is_file, WAIT_S)
    meant = notes.launches  # as a restart sends it, whose cell waits in a busy kernel
    assert meant
    here.restart(vm)
    first = json.loads(status.read_text())
    here.start(vm)
    newer = until(lambda: _other(status, first["pid"]), WAIT_S)
    _, answer = here._account.cell(notes, colab_cells.sweep, meant)
    assert answer == {"swept": True, "killed": 0}
    until(lambda: json.loads(status.read_text())["beat"] > newer["beat"] + 2, WAIT_S)
    assert json.loads(status.read_text())["pid"] == newer["pid"]
    _, answer = here._account.cell(notes, colab_cells.sweep, notes.launches)
    assert answer["killed"] >= 1
    here.restart(vm)


def _other(status: Path, pid: int) -> dict[str, int]:
    told: dict[str, int] = json.loads(status.read_text())
    return told if told["pid"] != pid else {}


def test_a_tunnel_that_says_not_found_and_tokens_that_end_soon_take_nothing_away(
    here: Colab, vm: Machine, world: World, tmp_path: Path
) -> None:
    tunnel = world.service.of(vm.endpoint).tunnel
    (tmp_path / "file").write_text("x")
    tunnel.answers = "404 Not Found"
    for call in (
        lambda: here.get(vm, "file", str(tmp_path / "none")),
        lambda: here.put(vm, str(tmp_path / "file"), "file"),
    ):
        with pytest.raises(MachineError) as told:
            call()
        assert (told.value.kind, isinstance(told.value, NoSuchFile)) == ("unreachable", False)
    tunnel.answers, world.service.token_life_s = "", 2
    here._of(vm).refresh()
    here.put(vm, str(tmp_path / "file"), "file")
    tunnel.tokens.clear()
    here.get(vm, "file", str(tmp_path / "back"))
    world.service.token_life_s = 3600
    assert (tmp_path / "back").read_text() == "x"


def test_trouble_is_never_an_empty_listing(world: World, colab_here: Colab) -> None:
    for status, kind in ((401, "login"), (403, "denied"), (500, "unreachable")):
        world.service.list_fails, world.service.list_status = 20, status
        with pytest.raises(MachineError) as told:
            colab_here.machines()
        assert told.value.kind == kind
        assert told.value.hint
        world.service.list_fails = 0
    world.gateway.server.down = True
    with pytest.raises(MachineError) as told:
        colab_here.machines()
    world.gateway.server.down = False
    assert told.value.kind == "unreachable"


def test_a_refusal_is_told_for_what_it_is(world: World, colab_here: Colab) -> None:
    before = len(world.service.assigned)
    for answers, kind in (
        ([412], "refused"),
        ([503, 503], "refused"),
        ([401] * 3, "login"),
        ([{"outcome": 1}], "quota"),
    ):
        world.service.assign_answers = list(answers)
        with pytest.raises(MachineError) as refused:
            colab_here.bring_up("four", Wanted("T4"))
        assert refused.value.kind == kind, refused.value
        assert refused.value.hint
    assert len(world.service.assigned) == before
    with pytest.raises(MachineError, match="no P100"):
        colab_here.bring_up("five", Wanted("P100"))


def test_a_machine_whose_answer_was_lost_is_found_again(world: World, colab_here: Colab) -> None:
    world.service.assign_answers = ["made"]
    made = colab_here.bring_up("five", Wanted("T4"))
    assert world.service.of(made.endpoint).listed
    world.service.assign_answers = ["made and gone"]
    with pytest.raises(MachineError) as told:
        colab_here.bring_up("six", Wanted("T4"))
    assert told.value.kind == "unreachable"
    assert world.service.vms[-1].endpoint in str(told.value)
    assert {each.name for each in colab_here.machines()} == {"five", ""}


def test_who_kills_the_computer_in_the_middle_makes_no_second_machine(
    world: World, colab_here: Colab, tmp_path: Path
) -> None:
    before = len(world.service.vms)
    world.service.assign_answers = [3.0]
    program = (
        "import pathlib, sys; from supervisor.core.provisioning import Wanted; "
        "from supervisor.fleet.provisioners.colab import ColabProvisioner; "
        "ColabProvisioner(pathlib.Path(sys.argv[1])).bring_up('seven', Wanted('T4'))"
    )
    first = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "computer")], env=world.environ)
    until(lambda: not world.service.assign_answers, WAIT_S)
    first.kill()
    first.wait()
    colab_here.bring_up("seven", Wanted("T4"))
    assert len(world.service.vms) == before + 1


def test_the_call_that_stays_with_a_machine_ends_when_the_machine_is_gone(
    world: World, colab_here: Colab, tmp_path: Path
) -> None:
    gone = colab_here.bring_up("eight", Wanted())
    (tmp_path / "launch.py").write_text(BEATS)
    colab_here.put(gone, str(tmp_path / "launch.py"), "launch.py")
    colab_here.start(gone)
    world.service.reclaim(gone.endpoint)
    for absences in range(colab_here.traits.listings):
        with colab_here._of(gone).lock("attached") as free:
            assert free is None, f"{absences} listings are not enough"
        colab_here.machines()
    with colab_here._of(gone).lock("attached") as free:
        assert free is not None


def test_nobody_has_logged_in(world: World, colab_here: Colab) -> None:
    world.token.unlink()
    with pytest.raises(MachineError) as told:
        colab_here.balance()
    world.log_in()
    assert (told.value.kind, "colab usage" in told.value.hint) == ("login", True)
    world.service.logged_in = False
    world.token.write_text(world.token.read_text().replace("2099", "2019"))
    with pytest.raises(MachineError) as told:
        colab_here.balance()
    assert told.value.kind == "login"
    world.service.logged_in = True
    assert colab_here.balance().units_per_hour is not None
    assert "2019" in world.token.read_text(), "the person's own file is not touched"
    world.log_in()


def test_a_call_that_never_returns_is_ended(
    here: Colab, vm: Machine, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colab, "SMALL_S", 3.0)
    world.service.of(vm.endpoint).tunnel.mute = True
    with pytest.raises(MachineError, match="did not answer in time"):
        here.get(vm, "status.json", str(tmp_path / "status"))
    world.service.of(vm.endpoint).tunnel.mute = False
    monkeypatch.undo()
    for cell_s in (10.0, 40.0, colab_account.CELL_S):  # the sweep too has only so long, which a busy machine may need
        monkeypatch.setattr(colab_account, "CELL_S", cell_s)
        said, answer = here._account.cell(here._of(vm), lambda _mark: "while True: pass")
        assert (said.code, answer) == (None, {})
        with contextlib.suppress(MachineError):
            here.restart(vm)  # its kernel is busy for ever, and the sweep needs it
            break
    else:
        pytest.fail("a busy kernel is not restarted")
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    here.put(vm, str(tmp_path / "file"), "file")


def test_a_drive_is_mounted_when_it_is_there_not_when_it_is_said(here: Colab, vm: Machine, world: World) -> None:
    asked: list[str] = []

    def ask(address: str) -> None:
        asked.append(address)
        world.service.consents = len(asked) == 2

    assert here.mount_drive(vm, ask, consent_s=0.0)
    assert len(asked) == 2, "the first time it was said, and was not so"
    assert asked[0].startswith("https://")
    assert here.mount_drive(vm, pytest.fail)


def test_what_the_command_line_forgets_is_put_back_and_taken_back(here: Colab, vm: Machine, world: World) -> None:
    """The last of the shared machine."""
    here._of(vm).refresh()  # so that the next call asks for a token, by a listing
    world.service.hidden[vm.endpoint] = 1
    with pytest.raises(MachineError) as told:
        here.get(vm, "none", "none")
    assert told.value.kind == "unreachable"
    with pytest.raises(NoSuchFile):
        here.get(vm, "none", "none")
    here._of(vm).refresh()
    world.service.hidden[vm.endpoint] = 1  # now `stop` says "not found" and ends with 0, and the machine goes on
    here.release(vm)
    assert not world.service.of(vm.endpoint).listed
    assert here.machines() == []
