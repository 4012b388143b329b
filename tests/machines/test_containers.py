"""Containers on one box share its boot, and count their processes from 1: none is taken for another one's dead self."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, final_state
from tests.machines.jobs import AS_TOY, JOB, OFTEN, SLOW_TOY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.machines.cloud import Cloud
    from tests.machines.machine import NamespacedMachine

pytestmark = pytest.mark.slow


def test_a_container_does_not_take_another_one_s_session_for_dead(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict, tmp_path: Path
) -> None:
    first, second = (new_machine(container=True, stale="") for _ in range(2))
    environ = {"HELD": str(tmp_path / "let-go")}
    one = first.start(SLOW_TOY, *AS_TOY, *OFTEN, arguments=JOB, environ=environ)
    one.until("safe: step")
    other = second.start(SLOW_TOY, *AS_TOY, *OFTEN, arguments=JOB, environ=environ)
    other.until("waiting until it ends")
    (tmp_path / "let-go").touch()
    assert one.wait() == 0, one.text
    assert other.wait() == 0, other.text
    assert "finished" in other.text
    claims = [json.loads(path.read_text())["machine"] for path in cloud.runs.glob("toy/e*/claim.json")]
    assert len(claims) == 1
    assert final_state(cloud.runs, "toy") == uninterrupted


def test_what_a_container_reads_of_its_neighbour_proves_nothing_about_the_cloud(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud
) -> None:
    """They may share a drive, and its cache with it; a machine of its own does not."""
    first, beside, away = new_machine(container=True), new_machine(container=True), new_machine()
    turn = first.start(TOY, *OFTEN, arguments=JOB)
    assert turn.wait() == 0, turn.text
    first.all_sent()
    told = [machine.run("checkpoints", "toy", "verify") for machine in (beside, away)]
    assert [each.returncode for each in told] == [0, 0], told
    beside.all_sent()
    away.all_sent()
    assert list(cloud.runs.glob("toy/verified-*")), "nothing says that it was verified"
    assert [
        path for path in cloud.runs.glob("toy/verified-*") if f'"host": "{beside.folder.name}"' in path.read_text()
    ] == []
