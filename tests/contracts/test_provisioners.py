"""The laws of ``core.provisioning.Provisioner``, for every provisioner of the table and for the fake that stands for them.

A new row of the table is tested as soon as ``tests/contracts/provisioners.py`` has a world for it; until then this fails.
A call of Colab's command line takes seconds: only BRIEF is asked of it here, unless SUPERVISOR_TEST_THOROUGH is set; the
rest is shown once in ``tests/fleet/test_colab.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import until
from supervisor.core.provisioning import KINDS, Balance, Machine, MachineError, NoSuchFile
from supervisor.fleet.provisioners import TABLE
from tests.contracts.provisioners import WORLDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from supervisor.core.provisioning import Provisioner
    from tests.contracts.provisioners import World

WAIT_S = 400
BRIEF = {
    "test_a_machine_is_made_once_listed_by_its_name_and_given_back",
    "test_a_computer_that_forgot_finds_its_machine_by_the_record",
}
PARCEL = 'inbox/it\'s a "parcel" with $HOME; and ü.parcel'
AGENT = """
import itertools, json, os, subprocess, sys, time
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, "launch.py", "inner"], start_new_session=True)
name = "status.json" if len(sys.argv) == 1 else "inner.json"
for beat in itertools.count(1):
    with open(name + ".new", "w") as file:
        json.dump({"beat": beat, "pid": os.getpid()}, file)
    os.replace(name + ".new", name)
    time.sleep(0.1)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames or "here" in metafunc.fixturenames:
        brief = metafunc.function.__name__ in BRIEF or "SUPERVISOR_TEST_THOROUGH" in os.environ
        rows = [
            pytest.param(name, marks=[] if name == "fake" else [pytest.mark.slow])
            for name in (*TABLE, "fake")
            if brief or name != "colab"
        ]
        metafunc.parametrize("world", rows, indirect=True, scope="module")


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    make, missing = WORLDS[request.param]
    if why := missing():
        pytest.skip(why)
    made = make(tmp_path_factory.mktemp(request.param))
    yield made
    made.end()


@pytest.fixture
def here(world: World, tmp_path: Path) -> Provisioner:
    """A computer that knows nothing yet."""
    return world.computer(tmp_path / "computer")


@pytest.fixture
def machine(world: World, here: Provisioner) -> Iterator[Machine]:
    made = here.bring_up("a night's run", world.wanted)
    yield made
    if world.lives(made):
        world.vanish(made)


def test_a_machine_is_made_once_listed_by_its_name_and_given_back(world: World, here: Provisioner) -> None:
    made = here.bring_up("toy-1", world.wanted)
    assert made.name == "toy-1"
    assert made.record
    assert here.bring_up("toy-1", world.wanted) == made
    assert [each for each in here.machines() if each.name] == [made]
    here.release(made)
    assert made.endpoint not in endpoints(here)
    assert not world.lives(made)
    here.release(made)  # is fine for one that is gone


def test_two_at_once_make_one_machine_of_a_name(world: World, here: Provisioner) -> None:
    made: list[Machine] = []
    both = [
        threading.Thread(target=lambda: made.append(here.bring_up("twice", world.wanted)), daemon=True)
        for _ in range(2)
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert made == [made[0]] * 2
    here.release(made[0])


def test_files_come_back_as_they_were(here: Provisioner, machine: Machine, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    for body in (b"", b"\0\r\n\xff" * 50_000, b'{"umlaut": "\xc3\xbc"}\r\n'):
        sent.write_bytes(body)
        here.put(machine, str(sent), PARCEL)
        here.get(machine, PARCEL, str(got))
        assert got.read_bytes() == body
        assert sent.read_bytes() == body
    for path in ("inbox/none", "none/deeper", f"{PARCEL}/below"):
        with pytest.raises(NoSuchFile):
            here.get(machine, path, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_several_files_come_in_one_go_whatever_they_hold(here: Provisioner, machine: Machine, tmp_path: Path) -> None:
    bodies = {"all/empty": b"", "all/deep/.env": b"KEY=value\n", "all/large": os.urandom(200_000)}
    for number, body in enumerate(bodies.values()):
        (tmp_path / f"{number}").write_bytes(body)
    for _ in range(2):  # done again, it is the same
        here.put_all(machine, [(str(tmp_path / f"{number}"), path) for number, path in enumerate(bodies)])
    for path, body in bodies.items():
        here.get(machine, path, str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == body
    with pytest.raises(MachineError, match="inside"):
        here.put_all(machine, [(str(tmp_path / "0"), "all/empty"), (str(tmp_path / "1"), "../outside")])


def test_nobody_sees_half_a_file(here: Provisioner, machine: Machine, tmp_path: Path) -> None:
    bodies = [bytes([number]) * 3_000_000 for number in (1, 2)]
    files = [tmp_path / "one", tmp_path / "two"]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    here.put(machine, str(files[0]), "parcel")
    writer = threading.Thread(target=lambda: [here.put(machine, str(file), "parcel") for file in (files[1], files[0])])
    writer.start()
    seen = set()
    while writer.is_alive():
        here.get(machine, "parcel", str(tmp_path / "seen"))
        seen.add(hashlib.sha256((tmp_path / "seen").read_bytes()).digest())
    writer.join()
    assert seen
    assert seen <= {hashlib.sha256(body).digest() for body in bodies}


def test_a_file_outside_the_machines_folder_is_neither_read_nor_written(
    here: Provisioner, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    for path in ("../outside", "/outside", "inbox/../../outside", ""):
        with pytest.raises(MachineError, match="inside"):
            here.put(machine, str(tmp_path / "file"), path)
        with pytest.raises(MachineError, match="inside"):
            here.get(machine, path, str(tmp_path / "got"))


def test_the_agent_runs_once_outlives_this_computer_and_ends_with_a_restart(
    world: World, here: Provisioner, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "launch.py").write_text(AGENT)
    here.put(machine, str(tmp_path / "launch.py"), "launch.py")
    here.start(machine)
    beating = until(lambda: told(here, machine, tmp_path) and told(here, machine, tmp_path, "inner.json"), WAIT_S)
    pid = told(here, machine, tmp_path)["pid"]
    another = world.computer(tmp_path / "another computer")
    adopted = another.adopt(machine)
    another.start(adopted)
    until(lambda: told(another, machine, tmp_path, "inner.json")["beat"] > beating["beat"], WAIT_S)
    assert told(another, machine, tmp_path)["pid"] == pid, "one agent ran all the time"
    another.restart(adopted)
    before = {name: told(another, machine, tmp_path, name) for name in ("status.json", "inner.json")}
    another.restart(adopted)  # fine where nothing runs; and meanwhile nothing went on
    assert before == {name: told(another, machine, tmp_path, name) for name in before}, (
        "files are kept, processes ended"
    )
    another.start(adopted)
    until(lambda: told(another, machine, tmp_path)["pid"] != pid, WAIT_S)
    another.release(adopted)
    assert not world.lives(machine)


def test_a_machine_that_vanished_is_off_the_list_and_never_an_absent_file(
    world: World, here: Provisioner, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    world.vanish(machine)
    assert machine.endpoint not in endpoints(here)
    for call in uses(here, machine, tmp_path)[: world.silences]:
        with pytest.raises(MachineError) as told_so:
            call()
        assert told_so.value.kind in {"gone", "unreachable"}
        assert not isinstance(told_so.value, NoSuchFile)
    with pytest.raises(MachineError) as gone:
        here.adopt(machine)
    assert gone.value.kind == "gone"
    again = here.bring_up(machine.name, world.wanted)
    assert (again.name, again.record != machine.record) == (machine.name, True)
    here.release(machine)
    assert world.lives(again), "the release of the dead one is nothing to its successor"
    here.release(again)


def test_one_that_does_not_answer_in_time_is_never_taken_for_gone(
    world: World, here: Provisioner, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with world.silent(machine):
        for call in uses(here, machine, tmp_path)[: world.silences]:
            with pytest.raises(MachineError) as told_so:
                call()
            assert told_so.value.kind == "unreachable"
    assert machine.endpoint in endpoints(here)
    here.put(machine, str(tmp_path / "file"), "file")


def test_a_computer_that_forgot_finds_its_machine_by_the_record(world: World, machine: Machine, tmp_path: Path) -> None:
    blank = world.computer(tmp_path / "blank computer")
    unknown = {each.endpoint: each for each in blank.machines()}[machine.endpoint]
    assert (unknown.name, unknown.record) == ("", "")
    with pytest.raises(MachineError):
        blank.release(unknown)
    assert world.lives(machine)
    adopted = blank.adopt(machine)
    assert adopted == machine
    assert adopted in blank.machines()
    (tmp_path / "file").write_text("x")
    blank.put(adopted, str(tmp_path / "file"), "file")
    blank.release(adopted)
    assert not world.lives(machine)


def test_what_is_not_ours_is_listed_and_left_alone(world: World, here: Provisioner, tmp_path: Path) -> None:
    theirs = world.foreign()
    (tmp_path / "file").write_text("x")
    assert {each.endpoint: each for each in here.machines()}[theirs.endpoint].name == ""
    for call in [*uses(here, theirs, tmp_path), lambda: here.release(theirs), lambda: here.adopt(theirs)]:
        with pytest.raises(MachineError) as told_so:
            call()
        assert told_so.value.kind == "failed"
    ours = here.bring_up("beside theirs", world.wanted)
    here.restart(ours)
    here.release(replace(ours))
    assert world.lives(theirs)
    assert theirs.endpoint in endpoints(here)


def test_nobody_knows_the_balance_or_it_is_a_number(world: World, here: Provisioner) -> None:
    balance = here.balance()
    assert balance == Balance() or not here.traits.paid or balance.units is not None
    assert here.traits.place
    assert here.traits.listings >= 1


def endpoints(provisioner: Provisioner) -> set[str]:
    """Every machine that is listed now; an absent one was absent as often as its provisioner says is enough."""
    return {
        each.endpoint for _ in range(provisioner.traits.listings) for each in provisioner.machines()
    }  # fmt: skip


def uses(provisioner: Provisioner, machine: Machine, folder: Path) -> list[Callable[[], object]]:
    return [
        lambda: provisioner.get(machine, "status.json", str(folder / "never")),
        lambda: provisioner.put(machine, str(folder / "file"), "file"),
        lambda: provisioner.start(machine),
        lambda: provisioner.restart(machine),
    ]


def told(provisioner: Provisioner, machine: Machine, folder: Path, name: str = "status.json") -> dict[str, int]:
    """What a machine's file says; {} while there is none."""
    try:
        provisioner.get(machine, name, str(folder / "told.json"))
    except NoSuchFile:
        return {}
    said: dict[str, int] = json.loads((folder / "told.json").read_text())
    return said


def test_every_kind_of_trouble_has_one_word() -> None:
    assert len(set(KINDS)) == len(KINDS)
    assert NoSuchFile("there is none").kind in KINDS
