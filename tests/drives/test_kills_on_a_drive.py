"""Machines taken away at random times under a slow upload: supervisor, trainer and rclone killed, the cache gone.

I1, I2, I3, I4, I18: what was called safe is never older after the resume, and the run ends as if nothing had happened.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.drives import told
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.machines import Machine, Turn
    from tests.drives.drive import Drive

pytestmark = pytest.mark.slow
LIVES = int(os.environ.get("DRIVE_KILLS", "10"))  # 100 by hand: DRIVE_KILLS=100
STEPS, STEP_MS = 200, 10.0
SPAN_S = 4.0  # what a session takes to its end, more or less


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_run_whose_machines_are_taken_away_ends_as_if_they_had_not_been(
    uninterrupted, new_drive, new_machine, seed: int
) -> None:
    chance = random.Random(seed)
    drive = new_drive(RcloneDrive, mount=False, bwlimit=chance.choice(["150k", "400k", "4M"]), write_back="500ms")
    safe = (0, 0)
    for _ in range(chance.choice([1, 1, 2])):
        turn = _life(drive, new_machine)
        _lives_for(turn, chance.uniform(0.3, SPAN_S))
        _taken_away(turn, drive, chance)
        assert all(each >= safe for each in told.restored(turn)), turn.text
        safe = max([safe, *told.safe(turn)])
    turn = _life(drive, new_machine)
    assert turn.wait() == 0, turn.text
    assert all(each >= safe for each in told.restored(turn)), turn.text
    drive.reclaim()  # at once: what it called safe at its end must not need this machine any more
    assert max(told.safe(turn), default=safe)[1] == STEPS
    assert told.same(told.in_the_cloud(drive), uninterrupted(STEPS))


def _life(drive: Drive, new_machine: Callable[..., Machine]) -> Turn:
    drive.mount()
    return told.begin(new_machine(drive.root / "supervisor"), steps=STEPS, step_ms=STEP_MS)


def _taken_away(turn: Turn, drive: Drive, chance: random.Random) -> None:
    """Kill everything, in any order: the moments between are moments of a machine that dies too."""
    parts = [lambda: turn.kill("both"), drive.die]
    chance.shuffle(parts)
    for kill in parts:
        kill()
    drive.reclaim()


def _lives_for(turn: Turn, seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s and turn.running:
        time.sleep(0.005)  # because the moment of the kill is what is drawn, in real time
