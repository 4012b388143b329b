"""Clocks that are wrong by days, stamps of files that mean nothing, machines that are up for months: no decision changes (I12)."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, final_state, until
from tests.machines.cloud import Cloud, Watched
from tests.machines.jobs import AS_TOY, JOB, OFTEN, SLOW_TOY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.machines.machine import NamespacedMachine

pytestmark = pytest.mark.slow
DAY_S = 86400.0
DAYS = (9, -400, 3650)


def shuffle_stamps(cloud: Cloud, seed: int) -> None:
    chance = random.Random(seed)
    for path in cloud.runs.rglob("*"):
        at_s = chance.uniform(0, 4e9)
        os.utime(path, (at_s, at_s))


def test_a_run_on_machines_with_wrong_clocks_is_as_any_other(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    began = []
    with Watched(cloud) as watched:
        for number, wrong in enumerate(DAYS):
            machine = new_machine(skew_s=wrong * DAY_S, boots_s=number * 7_000_000)
            turn = machine.start(TOY, *OFTEN, "--takeover", arguments=JOB)
            if number < len(DAYS) - 1:
                turn.until(lambda number=number: cloud.choice() and cloud.choice().epoch == number + 1)
                machine.end()
                shuffle_stamps(cloud, number)
                began.append(cloud.choice().step)
            else:
                assert turn.wait() == 0, turn.text
                machine.all_sent()
            if number:
                assert f"going on from step {began[number - 1]:,}, verified" in turn.text
    assert began == sorted(set(began))
    assert [epoch for epoch, _ in watched.choices] == sorted(epoch for epoch, _ in watched.choices)
    assert final_state(cloud.runs, "toy") == uninterrupted


def test_a_session_that_lives_is_not_silent_because_its_clock_is_wrong(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict, tmp_path: Path
) -> None:
    environ = {"HELD": str(tmp_path / "let-go")}
    first = new_machine(skew_s=-5 * DAY_S).start(SLOW_TOY, *AS_TOY, *OFTEN, arguments=JOB, environ=environ)
    until(lambda: cloud.session(1))
    machine = new_machine()
    second = machine.start(SLOW_TOY, *AS_TOY, *OFTEN, arguments=JOB, environ=environ)
    second.until("--takeover")
    (tmp_path / "let-go").touch()
    assert first.wait() == 0, first.text
    assert second.wait() == 0, second.text
    assert "finished" in second.text
    assert cloud.session(2) is None
    assert final_state(cloud.runs, "toy") == uninterrupted


def test_a_zombie_with_a_later_clock_gives_way_all_the_same(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    zombie = new_machine(skew_s=400 * DAY_S)
    turn = zombie.start(TOY, *OFTEN, arguments=JOB)
    turn.until("safe in")
    turn.signal(signal.SIGSTOP)
    second = new_machine(skew_s=-400 * DAY_S).start(TOY, *OFTEN, "--takeover", arguments=JOB)
    second.until("going on from step")
    turn.signal(signal.SIGCONT)
    assert turn.wait() == 75, turn.text
    assert second.wait() == 0, second.text
    assert final_state(cloud.runs, "toy") == uninterrupted
