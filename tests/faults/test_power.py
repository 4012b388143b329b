"""The power fails at any call, and the disk keeps of the unflushed what it likes: what was DURABLE is still there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core.content import ContentError
from supervisor.engine import staged
from supervisor.stores.folder import FolderStore
from tests.faults import syscalls
from tests.faults.laws import nothing_safe_is_lost
from tests.faults.losses import CHANGING, names_are_whole, power_sweep, with_real_calls
from tests.faults.power import Disk
from tests.faults.stores import OnAnotherDisk
from tests.faults.world import SAME_STEPS, Violation, World, before, demand, stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "made"), [((1, 30), OnAnotherDisk), ((1, 30), FolderStore), ((2, 50, SAME_STEPS), FolderStore)]
)
def test_what_is_durable_survives_every_power_loss_that_the_flushes_allow(quick, size, made):
    start = before(quick / "start", size, made)
    assert power_sweep(start, quick) > 300


def test_a_first_run_in_a_new_store_survives_a_power_loss_once_it_is_durable(quick):
    world = World(quick / "new")
    world.root.mkdir()
    (world.root / "script.py").write_text("pass\n")
    disk = Disk(world.root)

    def act(call: syscalls.Call) -> Any:
        of_the_store = call.path == str(world.root) or call.path.startswith(world.where)
        return disk.act(call) if of_the_store else call.go()

    with syscalls.bent(act):
        turn = world.turn("second")
        turn.begin()
        turn.publish(turn.stage())
    assert world.safe
    for _, top, choice in disk.states():
        choice.build(top, quick / "after")
        nothing_safe_is_lost(World(quick / "after", world.size, list(world.safe)))
        shutil.rmtree(quick / "after")


def test_a_name_in_the_store_is_whole_or_absent_after_every_power_loss(quick):
    assert names_are_whole(quick) > 100


def test_a_staged_checkpoint_is_whole_or_absent_after_every_power_loss(quick):
    world = World(quick / "machine")
    staging = world.root / "staging"
    staging.mkdir(parents=True)
    disk, states = Disk(world.root), [0]
    done: list[Path] = []

    def lose() -> None:
        for words, top, choice in disk.states():
            states[0] += 1
            choice.build(top, quick / "after")
            there = {each.name for each in (quick / "after" / "staging").iterdir()}
            for folder in done:
                demand(folder.name in there, f"{folder.name} was STAGED and is lost ({words})")
            for name in there:
                if name.startswith("step-"):
                    try:
                        staged.prove(quick / "after" / "staging" / name, int(name.split("-")[1]))
                    except ContentError as error:
                        raise Violation(f"{name}: {error} ({words})") from error
            shutil.rmtree(quick / "after")

    def act(call: syscalls.Call) -> Any:
        result = disk.act(call)
        if call.name in CHANGING and call.path.startswith(str(world.root)):
            with_real_calls(lose)
        return result

    with syscalls.bent(act):
        done.append(stage(world, staging, (0, 5), 1))
        done.append(stage(world, staging, (5, 10), 2))
    with_real_calls(lose)
    assert states[0] > 100
