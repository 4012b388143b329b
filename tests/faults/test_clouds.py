"""The machine of a mounted drive is taken away at any call: of what was not proved uploaded the cloud has what it likes.

I1, I2, I3, I4, I7, I16: what was called safe is there, and whatever else is there never stops the next machine.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.faults.losses import CLOUD_STRIDE, cloud_sweep
from tests.faults.stores import OnADrive
from tests.faults.world import SAME_STEPS, World, before, story


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "times"), [((1, 30), 1), ((2, 50, SAME_STEPS), 3)], ids=["one file", "two, one shared"]
)
def test_what_is_durable_survives_the_machine_whatever_else_arrives(quick, size, times):
    assert cloud_sweep(before(quick / "start", size, OnADrive), quick, times * CLOUD_STRIDE) > 300


@pytest.mark.slow
def test_a_first_run_on_a_drive_outlives_its_machine_or_begins_again(quick):
    world = World(quick / "start", (1, 30), made=OnADrive)
    world.root.mkdir()
    (world.root / "script.py").write_text("pass\n")
    stride = -(-CLOUD_STRIDE // 4)
    assert cloud_sweep(world, quick, stride, partial(story, checkpoints_made=1)) > 300
