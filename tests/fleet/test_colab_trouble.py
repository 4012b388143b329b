"""Trouble of a night on Colab, through the real command line: listings that fail or lack a machine, and a call cut by a leave."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, Turn, until
from benchmarks.night_launch import FOLDER
from supervisor.fleet.provisioners.colab_notes import all_notes
from tests.fleet.paced import project
from tests.fleet.plane.vm_box import missing
from tests.fleet.plane.world import World, a_colab_world
from tests.fleet.test_launch import newest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "machines can be made")]
JOB = ("--steps", "300", "--step-ms", "0", "--state-mb", "0.2", "--seed", "4")
LISTINGS, MANY = "GET /tun/m/assignments", 10**6
WAIT_S = 400


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_colab_world(tmp_path / "world") as made:
        yield made
        for notes in all_notes(next(made.folder.glob("local/**/state/colab/machines"))):
            notes.detach()  # the call that stays with a machine outlives a launch that was killed


def environ(world: World, place: Path) -> dict[str, str]:
    return world.environ | {"PYTHONPATH": str(ROOT), FOLDER: str(place)}


def command(place: Path, *options: str) -> list[str]:
    script = project(place / "project", place / "gate")
    return [
        sys.executable, "-m", "benchmarks.night_launch", "launch", str(script), "--on", "colab", "--save-every", "5steps",
        "--no-install", *options, "--", *JOB,
    ]  # fmt: skip


def ran(world: World, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.night_launch", *words], cwd=place, env=environ(world, place), capture_output=True,
        text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def noted(place: Path) -> str:
    """What the command line wrote down on this computer of the machine that it made."""
    return "".join(each.read_text() for each in place.glob("world/local/**/machines/toy-*/session.json"))


@pytest.mark.timeout(1200)
def test_what_listings_do_not_say_stops_no_fetching_and_leaves_no_machine(world: World, tmp_path: Path) -> None:
    launch = Turn(command(tmp_path), tmp_path, environ(world, tmp_path), tmp_path / "told.txt")
    service, store = world.service, tmp_path / "runs"
    launch.until(lambda: newest(store) >= 5, WAIT_S)
    (first,) = service.assigned

    second = ran(world, tmp_path, *command(tmp_path, "--name", "other")[3:])
    assert second.returncode == 75
    assert "one machine at a time for an account" in second.stderr
    assert service.assigned == [first]

    service.list_status, service.list_fails = 503, MANY
    asked = service.asked.count(LISTINGS)
    first.tunnel.answers = "502 Bad Gateway"
    launch.until(lambda: service.asked.count(LISTINGS) > asked, WAIT_S)  # a poll failed
    first.tunnel.answers = ""
    safe = newest(store)
    launch.until(lambda: newest(store) > safe, WAIT_S)
    assert service.list_fails > MANY - 100, "no listing came through meanwhile"
    service.list_fails = 0

    service.hidden[first.endpoint] = MANY
    first.tunnel.answers = "404 Not Found"
    launch.until(lambda: len(service.assigned) == 2, WAIT_S)
    service.hidden.clear()
    launch.until(f"{first.endpoint} is given back", WAIT_S)
    assert service.assigned == [service.vms[1]], "the one that serves stays"
    assert f"{first.endpoint} was taken for lost and is listed again: giving it back" in launch.text
    launch.end()


@pytest.mark.timeout(600)
def test_a_machine_that_appears_after_a_leave_is_named_listed_as_ours_and_can_be_given_back(
    world: World, tmp_path: Path
) -> None:
    world.service.assign_answers = [3.0]  # seconds
    launch = Turn(command(tmp_path), tmp_path, environ(world, tmp_path), tmp_path / "told.txt")
    launch.until(lambda: "POST /tun/m/assign" in world.service.asked, WAIT_S)
    for words in ("stopped by Ctrl-C", "a machine may still appear: toy-"):
        launch.process.send_signal(signal.SIGINT)
        launch.until(words, WAIT_S)
    assert launch.wait(WAIT_S) == 130, launch.text
    assert "--list" in launch.text
    assert "status toy" not in launch.text, "nothing began, so that there is no run to ask for"
    (appeared,) = until(lambda: world.service.assigned, WAIT_S)
    until(lambda: appeared.endpoint in noted(tmp_path), WAIT_S)
    listed = ran(world, tmp_path, "launch", "--on", "colab", "--list").stdout
    assert f"--release {appeared.endpoint}" in listed
    done = ran(world, tmp_path, "launch", "--on", "colab", "--release", appeared.endpoint)
    assert (done.returncode, done.stdout) == (0, f"{appeared.endpoint} is given back\n"), done.stderr
    assert world.service.assigned == []
