"""`launch` with real processes on this computer: machines die, the controller is killed at every step, and the run ends equal."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.machines import ROOT, TOY, Turn, final_state, until
from benchmarks.machines import Machine as OneMachine
from supervisor.fleet.provisioners.ssh_far import MARKER
from tests.fleet.fake import FakeCloud
from tests.fleet.paced import project

pytestmark = pytest.mark.slow
JOB = ("--steps", "300", "--step-ms", "0", "--state-mb", "0.2", "--seed", "4")
SHORT = ("--steps", "60", "--step-ms", "10", "--state-mb", "0.2", "--seed", "4")
WAIT_S = 400
CALLS = ("machines", "bring_up", "put", "start", "get", "release")


def newest(store: Path) -> int:
    """The newest step that is safe at home, -1 for none."""
    return max((int(path.parent.name.split("-")[1]) for path in store.glob("toy/*/step-*/manifest-*.json")), default=-1)


@pytest.fixture
def place(tmp_path):
    """Folders for the user's computer, with a project in it; whatever machines are left at the end go."""
    (tmp_path / "project").mkdir()
    shutil.copy(TOY, tmp_path / "project")
    yield tmp_path
    FakeCloud(tmp_path / "cloud").end()
    for machine in machines_of(tmp_path):
        reclaim(machine)


def environ(place, **more):
    own = {
        "PYTHONPATH": str(ROOT),
        "SUPERVISOR_RUN_LOCAL": str(place / "local"),
        "SUPERVISOR_LOCAL_MACHINES": str(place / "machines"),
    }
    return {**os.environ, **own, **more}


def paced(place):
    """The command line of a launch whose run waits at the gate for the test."""
    script = project(place / "project", place / "gate")
    return [
        sys.executable, "-m", "supervisor", "launch", str(script), "--on", "local", "--save-every", "5steps", "--no-install",
        "--", *JOB,
    ]  # fmt: skip


def paced_command(place):
    return [
        sys.executable, "-m", "supervisor", "launch", str(place / "project/toy.py"), "--on", "local", "--no-install", "--", "--steps", "5",
    ]  # fmt: skip


def machines_of(place):
    return [each for each in (place / "machines").glob("*") if each.is_dir() and not each.name.startswith(".")]


def reclaim(machine):
    """The machine dies: its processes at once, and its disk."""
    gone = machine.with_name(f".gone-{machine.name}")
    machine.rename(gone)  # first, because a process that still lives must not make the folder anew
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid() and _is_of(process, machine):
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
    for folder in (gone, machine):  # a supervisor that lived on for a moment makes its emptied folder again
        shutil.rmtree(folder, ignore_errors=True)


def _is_of(process, machine):
    try:
        return os.fsencode(machine) in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    except OSError:
        return False


def uninterrupted(place, job=JOB):
    alone = OneMachine(place / "one machine", place / "uninterrupted")
    done = alone.run("start", str(TOY), "--no-install", "--", *job)
    assert done.returncode == 0, done.stdout + done.stderr
    return final_state(place / "uninterrupted", "toy")


@pytest.mark.timeout(1800)
def test_three_machines_die_at_random_and_the_run_ends_like_an_uninterrupted_one(place):
    chance = random.Random(11)
    command = paced(place)
    launch = Turn(command, place, environ(place), place / "told.txt")
    safe = 0
    for _ in range(3):
        safe += 5 + chance.randrange(10)
        launch.until(lambda safe=safe: newest(place / "runs") >= safe, WAIT_S)
        (machine,) = machines_of(place)
        (place / "project/helper.py").write_text("raise SystemExit(3)  # half of an edit\n")
        reclaim(machine)
        safe = newest(place / "runs")
    (place / "gate").touch()
    assert launch.wait(WAIT_S) == 0, launch.text
    assert machines_of(place) == []
    assert "the project was edited since this launch began (helper.py)" in launch.text
    assert re.search(r"to the first step of toy-\w+-4: .*noticed .*sent .*first step", launch.text), launch.text
    assert final_state(place / "runs", "toy") == uninterrupted(place)
    again = Turn(command, place, environ(place), place / "again.txt")
    assert again.wait(WAIT_S) == 0, again.text
    assert "finished already" in again.text, "no machine is brought up to find that out"
    assert re.search(r"4 machines, [\d,]+ machine seconds", launch.text), launch.text


@pytest.mark.timeout(1800)
def test_a_living_machine_whose_files_vanish_is_said_and_replaced_and_the_run_ends_like_an_uninterrupted_one(place):
    launch = Turn(paced(place), place, environ(place), place / "told.txt")
    launch.until(lambda: newest(place / "runs") >= 5, WAIT_S)
    (machine,) = machines_of(place)
    (place / "gate").touch()
    (place / "vanished").mkdir()
    for each in list(machine.iterdir()):
        if each.name not in {MARKER, "home", "python"}:  # what its provisioner keeps
            each.rename(place / "vanished" / each.name)
    assert launch.wait(WAIT_S) == 0, launch.text
    assert "warning: the machine: files of the run were removed from the machine while it worked" in launch.text
    assert "what this computer does not hold is lost; the next machine goes on from what it holds" in launch.text
    assert re.search(r"2 machines, [\d,]+ machine seconds", launch.text), launch.text
    assert machines_of(place) == []
    assert final_state(place / "runs", "toy") == uninterrupted(place)


CONTROLLED = """
import os, signal, sys
from pathlib import Path
from supervisor.fleet import provisioners
from supervisor.cli import main
from supervisor.fleet.controller import Journal
from tests.fleet.fake import FakeCloud, FakeProvisioner

cloud = FakeCloud(Path(sys.argv[1]), agent=(sys.executable, "launch.py"))
sys.modules["controlled"] = sys.modules["__main__"]
made = lambda folder, environ: FakeProvisioner(cloud, folder)
provisioners.TABLE["fake"] = "controlled:made"
kill_at, append, written = int(sys.argv[2]), Journal._append, [0]

def counted(self, line):
    written[0] += 1
    if written[0] == kill_at and kill_at % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, line)
    if written[0] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

Journal._append = counted
raise SystemExit(main(["launch", sys.argv[3], "--on", "fake", "--save-every", "15steps", "--no-install", *sys.argv[4:]]))
"""


@pytest.mark.parametrize("at", ["each writing of its journal", "each call to the provisioner"])
@pytest.mark.timeout(1800)
def test_a_controller_killed_at_each_step_loses_no_machine_and_the_run_ends(place, at):
    """Each controller dies one step later than the one before it, so that together they get through the whole life of a machine."""
    cloud = FakeCloud(place / "cloud", agent=(sys.executable, "launch.py"))
    (place / "controlled.py").write_text(CONTROLLED)
    told = []

    def controller(kill_at=0):
        done = subprocess.run(
            [sys.executable, "controlled.py", str(place / "cloud"), str(kill_at), str(place / "project/toy.py"), "--", *SHORT],
            cwd=place, env=environ(place), capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        told.append(done.stdout + done.stderr)
        return done.returncode

    def die(kill_at=0):
        assert controller(kill_at) == -signal.SIGKILL, told[-1]
        alive = cloud.alive()
        assert len(alive) <= 1, "two machines cost units"
        seen.update(each.endpoint for each in alive)

    seen: set[str] = set()
    if at == "each writing of its journal":
        for kill_at in range(1, 8):  # before the odd ones, after the even ones
            die(kill_at)
    for call in CALLS if at == "each call to the provisioner" else CALLS[-1:]:
        for when in ("before", "after"):
            cloud.fail(call, "kill", when=when)
            die()
    assert controller() == 0, told[-1]
    assert cloud.alive() == []
    assert seen == {"fake-001"}, "every controller went on with the machine that was there"
    assert final_state(place / "runs", "toy") == uninterrupted(place, SHORT)


def test_ctrl_c_saves_fetches_and_gives_the_machine_back(place):
    command = [
        sys.executable, "-m", "supervisor", "launch", str(place / "project/toy.py"), "--on", "local",
        "--save-every", "15steps", "--no-install", "--", "--steps", "100000", "--step-ms", "20", "--state-mb", "0.1",
    ]  # fmt: skip
    launch = Turn(command, place, environ(place), place / "told.txt")
    launch.until(lambda: newest(place / "runs") >= 15, WAIT_S)
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait(WAIT_S) == 130, launch.text
    assert machines_of(place) == []
    assert "CANCELLED" in launch.text
    end = next((place / "runs").glob("toy/e*/end-*.json"))
    assert "stop" in end.name
    told = status(place)
    assert told["launch"]["state"] == "CANCELLED"
    assert told["launch"]["running"] is False


def status(place):
    """What `status --json` says of the run."""
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "status", "toy", "--json"], cwd=place, env=environ(place), capture_output=True,
        text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_a_stop_before_this_controllers_first_status_loses_nothing(place):
    """A controller dies, the machine trains on; the same command is typed without a network, Ctrl-C; the network comes."""
    cloud = FakeCloud(place / "cloud", agent=(sys.executable, "launch.py"))
    (place / "controlled.py").write_text(CONTROLLED)
    script = project(place / "project", place / "gate")
    command = [sys.executable, "controlled.py", str(place / "cloud"), "0", str(script), "--", *JOB]
    first = Turn(command, place, environ(place), place / "first.txt")
    first.until(lambda: newest(place / "runs") >= 15, WAIT_S)
    first.process.kill()
    first.process.wait()
    (machine,) = cloud.alive()
    cloud.cut(machine)
    before = newest(place / "runs")
    told = cloud.disk(machine) / "status.json"
    until(
        lambda: json.loads(told.read_text())["run"]["step"] >= before + 15, WAIT_S
    )  # it trains on, and nobody fetches
    again = Turn(command, place, environ(place), place / "again.txt")
    again.until("looking after it", WAIT_S)
    again.process.send_signal(signal.SIGINT)
    again.until("stopped by Ctrl-C", WAIT_S)
    calls = len(cloud.calls())
    until(lambda: len(cloud.calls()) > calls + 3, WAIT_S)  # it asks, and hears nothing
    assert [each.endpoint for each in cloud.alive()] == [machine.endpoint], "it is not given back unheard"
    cloud.mend(machine)
    assert again.wait(WAIT_S) == 130, again.text
    assert cloud.alive() == []
    assert newest(place / "runs") >= before + 15
    assert next((place / "runs").glob("toy/e*/end-*.json")).name.startswith("end-stop")


def test_a_script_that_fails_is_told_by_its_last_lines_and_status_says_how_the_launch_ended(place):
    (place / "project/toy.py").write_text("print('so far so good')\nraise ValueError('no such column: plate')\n")
    launch = Turn(paced_command(place), place, environ(place), place / "told.txt")
    assert launch.wait(WAIT_S) == 93, launch.text
    assert "the run makes no progress: script failed" in launch.text
    assert "the last lines of its output:" in launch.text
    assert "ValueError: no such column: plate" in launch.text
    assert "logs toy" in launch.text, "the hint names the run"
    assert machines_of(place) == []
    assert status(place)["launch"]["state"] == "FAILED"


def test_a_second_wish_leaves_the_machine_and_the_same_command_takes_it_up_again(place):
    command = paced(place)
    launch = Turn(command, place, environ(place), place / "told.txt")
    launch.until(lambda: newest(place / "runs") >= 5, WAIT_S)
    launch.process.send_signal(signal.SIGHUP)
    assert launch.wait(WAIT_S) == 130, launch.text
    (machine,) = machines_of(place)
    assert "goes on by itself" in launch.text
    changed = Turn(command, place, environ(place), place / "changed.txt")  # a stop, and the mind changed at once
    changed.until("looking after it", WAIT_S)
    changed.process.send_signal(signal.SIGINT)
    changed.until("stopped by Ctrl-C", WAIT_S)
    changed.process.send_signal(signal.SIGINT)
    assert changed.wait(WAIT_S) == 130, changed.text
    again = Turn(command, place, environ(place), place / "again.txt")
    again.until("looking after it", WAIT_S)
    (place / "gate").touch()
    assert again.wait(WAIT_S) == 0, again.text
    assert not machine.exists()
    assert list((place / "runs/toy").glob("stop-*")) == []
    delivered = "the stop had reached it before" in changed.text
    until(lambda: ("2 machines," if delivered else "1 machine,") in again.text)


def test_a_second_controller_of_the_same_run_is_sent_away(place):
    command = [
        sys.executable, "-m", "supervisor", "launch", str(place / "project/toy.py"), "--on", "local", "--no-install",
        "--", "--steps", "100000", "--step-ms", "20", "--state-mb", "0.1",
    ]  # fmt: skip
    launch = Turn(command, place, environ(place), place / "told.txt")
    launch.until(lambda: machines_of(place) != [], WAIT_S)
    second = subprocess.run(
        command, cwd=place, env=environ(place), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert second.returncode == 75
    assert second.stderr.splitlines()[0] == "error: another launch of this run is at it on this computer"
    launch.process.send_signal(signal.SIGTERM)
    assert launch.wait(WAIT_S) == 130, launch.text
    assert machines_of(place) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["launch", "toy.py", "--on", "mars"], 2, "there is no such place"),
        (["launch", "toy.py", "--on", "ssh"], 2, "there is no such place"),
        (["launch", "absent.py", "--on", "local"], 2, "does not exist"),
        (["launch", "--on", "local"], 2, "the script is missing"),
        (["launch", "toy.py", "--on", "local", "--until", "25:99"], 2, "is not a duration"),
        (["launch", "toy.py", "--on", "local", "--max-units", "many"], 2, "is not a number"),
        (["launch", "toy.py", "--on", "local", "--secret", "NOT_SET_HERE"], 2, "is not set here"),
        (["launch", "toy.py", "--on", "local", "--save-every", "often"], 2, "is no interval"),
    ],
)
def test_what_a_person_got_wrong_is_said_in_two_lines(place, words, code, said):
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", *words], cwd=place / "project", env=environ(place), capture_output=True, text=True,
        timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 2
    assert said in done.stderr


@pytest.mark.timeout(600)
def test_the_machines_know_the_project_of_this_computer_and_another_projects_script_is_refused_here(place):
    def launch(script, text, *options):
        command = [
            sys.executable, "-m", "supervisor", "launch", str(script), "--on", "local", "--no-install", *options, "--", *SHORT,
        ]  # fmt: skip
        return Turn(command, place, environ(place), place / text)

    first = launch(place / "project/toy.py", "first.txt")
    assert first.wait(WAIT_S) == 0, first.text
    record = json.loads((place / "runs/toy/run.json").read_text())
    assert (record["project"]["folder"], record["project"]["place"]) == ("project", str(place / "project/toy.py"))
    (place / "other").mkdir()
    (place / "other/toy.py").write_text("print('another')\n")
    other = launch(place / "other/toy.py", "other.txt")
    assert other.wait(WAIT_S) == 4, other.text
    assert "of another script" in other.text
    assert "--name other-toy " in other.text
    assert machines_of(place) == []
    shutil.copytree(place / "project", place / "moved/project")
    here = OneMachine(place / "one machine", place / "runs")
    done = here.run("start", str(place / "moved/project/toy.py"), "--no-install", "--", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "finished already" in done.stdout
    assert "edited" not in done.stdout
