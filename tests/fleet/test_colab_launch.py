"""A night on Colab in a minute: the real command line, real machines that die, and the run ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, TOY, Turn, final_state
from benchmarks.machines import Machine as OneMachine
from tests.fleet.paced import project
from tests.fleet.plane.vm_box import missing
from tests.fleet.plane.world import a_colab_world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "machines can be made")]
JOB = ("--steps", "300", "--step-ms", "0", "--state-mb", "0.2", "--seed", "4")
DEATHS = 2
WAIT_S = 500


@pytest.mark.timeout(1800)
def test_three_machines_and_nobody_there(tmp_path: Path) -> None:
    chance = random.Random(7)
    script = project(tmp_path / "project", tmp_path / "gate")
    uninterrupted = OneMachine(tmp_path / "one machine", tmp_path / "uninterrupted")
    done = uninterrupted.run("start", str(TOY), "--", *JOB)
    assert done.returncode == 0, done.stdout + done.stderr
    with a_colab_world(tmp_path / "world") as world:
        command = [
            sys.executable, "-m", "tests.fleet.hasty_colab", "launch", str(script), "--on", "colab", "--gpu", "T4",
            "--save-every", "20steps", "--no-install", "--", *JOB,
        ]  # fmt: skip
        launch = Turn(command, tmp_path, world.environ | {"PYTHONPATH": str(ROOT)}, tmp_path / "told.txt")
        safe = 0
        for _ in range(DEATHS):
            safe += chance.randrange(25)
            launch.until(lambda safe=safe: newest(tmp_path / "runs") > safe, WAIT_S)
            assert len(world.service.assigned) == 1, launch.text
            world.service.reclaim(world.service.assigned[0].endpoint)
            safe = newest(tmp_path / "runs")
        (tmp_path / "gate").touch()
        code = launch.wait(WAIT_S)
        assert code == 0, launch.text
        assert world.service.assigned == [], "nothing costs units any more"
        assert len(world.service.vms) == DEATHS + 1
        assert final_state(tmp_path / "runs", "toy") == final_state(tmp_path / "uninterrupted", "toy")
        assert re.search(r"3 machines, \d+ machine seconds, \d+\.\d*[1-9]\d* units", launch.text), launch.text
        assert "proxy-token" not in launch.text, "what opens a machine is not told"


def newest(store: Path) -> int:
    """The newest step that is safe at home, -1 for none."""
    return max((int(path.parent.name.split("-")[1]) for path in store.glob("toy/*/step-*/*.json")), default=-1)
