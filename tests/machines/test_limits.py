"""A machine that allows a few processes and threads only: whatever the number is, the run succeeds or ends by name."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine
from supervisor.core.errors import NO_MORE_PROCESSES
from tests.machines.groups import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
LIMITS = range(2, 20)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that limits how many processes and threads it holds."""
    for root in ROOTS:
        folder = root / f"{NAME}-{os.getpid()}-pids"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / "pids.max").exists():
                yield folder
                folder.rmdir()
                return
            folder.rmdir()
    pytest.skip("no control group that limits processes can be made here")


def test_every_limit_ends_in_success_or_in_two_lines(group, tmp_path):
    ended = {}
    for limit in LIMITS:
        (group / "pids.max").write_text(str(limit))
        machine = Machine(tmp_path / str(limit), tmp_path / f"store-{limit}")
        command = machine.command("start", str(TOY), "--save-every", "1s", "--", "--steps", "50", "--step-ms", "1")
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        ran = subprocess.run(
            ["sh", "-c", enter, "sh", *command], cwd=machine.work, env=machine.environ(), capture_output=True, text=True,
            timeout=400, check=False,
        )  # fmt: skip
        words = ran.stdout + ran.stderr
        ended[limit] = ran.returncode
        assert "Traceback" not in words, f"limit {limit}:\n{words}"
        assert ran.returncode in {0, 4, 93}, f"limit {limit}:\n{words}"
        assert ran.returncode == 0 or NO_MORE_PROCESSES in words, f"limit {limit}:\n{words}"
        if list((tmp_path / f"store-{limit}").glob("toy/e*/claim.json")):
            assert list((tmp_path / f"store-{limit}").glob("toy/e*/end-*.json")), f"limit {limit}:\n{words}"
        assert not (group / "cgroup.procs").read_text(), f"limit {limit}: a process was left behind"
    assert ended[LIMITS[0]] == 4
    assert ended[LIMITS[-1]] == 0
