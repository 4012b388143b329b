"""A machine that is taken away with all that is on it: the next one goes on from what was safe, never from a part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, final_state
from tests.machines.cloud import Cloud, Watched
from tests.machines.jobs import JOB, OFTEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machines.machine import NamespacedMachine, NamespacedTurn

pytestmark = pytest.mark.slow


def half_a_file(cloud: Cloud, _machine: NamespacedMachine, _turn: NamespacedTurn) -> bool:
    return bool(cloud.half_uploaded(1))


def a_manifest_that_is_not_uploaded(cloud: Cloud, machine: NamespacedMachine, _turn: NamespacedTurn) -> bool:
    written = machine.drive.cache / "vfs"
    names = {path.name for path in written.rglob("manifest-*")}
    return bool(names - {path.name for path in cloud.runs.rglob("manifest-*")})


def staged_and_not_submitted(cloud: Cloud, _machine: NamespacedMachine, turn: NamespacedTurn) -> bool:
    steps = {path.name[: len("step-000000000")] for path in turn.local.rglob("staging/step-*")}
    return bool(steps - {path.name for path in cloud.runs.rglob("step-*")})


@pytest.mark.parametrize("moment", [half_a_file, a_manifest_that_is_not_uploaded, staged_and_not_submitted])
def test_the_next_machine_goes_on_from_what_was_safe(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict, moment: Callable[..., bool]
) -> None:
    first = new_machine(bwlimit="300k")
    with Watched(cloud):
        turn = first.start(TOY, *OFTEN, arguments=JOB)
        turn.until("safe in")
        turn.until(lambda: moment(cloud, first, turn))
        text = turn.text
        first.reclaim()
        safe = int(text.rpartition("safe in the rclone drive: step ")[2].partition(",")[0])
        there = cloud.choice()
        assert there.step >= safe
        second = new_machine()
        turn = second.start(TOY, *OFTEN, "--takeover", arguments=JOB)
        assert turn.wait() == 0, turn.text
        assert f"going on from step {there.step:,}, verified" in turn.text
        assert turn.text.count("passed over") == 0, "a part of a checkpoint was published"
        second.all_sent()
    assert final_state(cloud.runs, "toy") == uninterrupted


def test_one_that_is_taken_away_before_anything_was_safe_leaves_no_obstacle(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    first = new_machine(bwlimit="50k")
    turn = first.start(TOY, *OFTEN, arguments=JOB)
    turn.until(lambda: cloud.half_uploaded(1))
    first.reclaim()
    second = new_machine()
    with Watched(cloud):
        turn = second.start(TOY, *OFTEN, "--takeover", arguments=JOB)
        assert turn.wait() == 0, turn.text
        second.all_sent()
    assert "beginning at step 0" in turn.text
    assert final_state(cloud.runs, "toy") == uninterrupted
