"""The stopwatch of the first hour measures a real clone: its first step, and after a kill its first resume."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks import first_hour

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_script_is_killed_and_resumed_in_a_clone_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.first_hour", "--folder", tmp_path,
            "--trainer", "trainers/toy.py", "--", "--steps", "20000",
        ],
        cwd=first_hour.ROOT, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\| 3\.\d+\.\d+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \| - \| - \|$", done.stdout, re.MULTILINE
    )
    assert not list(tmp_path.iterdir())


def test_a_command_that_fails_is_said_with_the_end_of_its_output(tmp_path: Path) -> None:
    hour = first_hour.FirstHour(sys.executable, tmp_path, "trainers/nothing.py")
    with pytest.raises(first_hour.FailedError, match="does not exist"):
        first_hour.measure(hour, str(first_hour.ROOT), None)
    assert len(hour.found) == 1
