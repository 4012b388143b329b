"""A machine whose disk is too small for a checkpoint: home is told at once that saves fail, and the launch gives the run up."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, Turn
from tests.fleet.paced import project
from tests.fleet.plane.vm_box import missing

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S = 400
SMALL_DISK = 'mount -t tmpfs -o size=16m tmpfs "$1" && shift && exec "$@"'
SOON = """
import sys
from supervisor.core import fleet_unsaved
from supervisor.cli import main
fleet_unsaved.OVERDUE_S_MAX = 6.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "a disk can be made here")
def test_saves_that_fail_on_a_full_disk_are_told_at_home_and_the_run_is_given_up(tmp_path: Path) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    (tmp_path / "soon.py").write_text(SOON)
    script = project(tmp_path / "project", tmp_path / "gate")
    command = [
        "unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(machines), sys.executable, "soon.py", "launch", str(script),
        "--on", "local", "--save-every", "4steps", "--no-install", "--", "--steps", "100000", "--step-ms", "0", "--state-mb", "30",
    ]  # fmt: skip
    environ = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_LOCAL": str(tmp_path / "local"), "HOME": str(tmp_path),
        "SUPERVISOR_LOCAL_MACHINES": str(machines), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    launch = Turn(command, tmp_path, environ, tmp_path / "told.txt")
    assert launch.wait(WAIT_S) == 93, launch.text
    told = launch.text
    assert re.search(r"warning: on toy-\S+: the save at step \d+ failed: .*No space left on device", told), told
    assert "has saved nothing new for" in told
    assert "the launch ends with exit code 93 if that stays so" in told
    assert re.search(r"FAILED: the run has trained for .* without a new checkpoint.*exit code 93", told), told
    assert "make room on the machine" in told
    assert "is given back" in told
