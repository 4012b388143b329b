"""Killed at any call: whatever was DURABLE is, and the next machine goes on, saves, retains and tidies up."""

from __future__ import annotations

import random

import pytest

from supervisor.core import events as ev
from supervisor.stores.folder import FolderStore
from tests.faults.laws import it_resumes_from, laws_hold, the_log_is_whole
from tests.faults.stores import WORLDS, OnADrive
from tests.faults.sweep import ALL, calls_of, chain, kill_sweep
from tests.faults.world import SIZES, World, before, story

KILL_STRIDE = 1 if ALL else 38
DRIVE_STRIDE = 1 if ALL else 68  # on a drive every write is many calls that only look
CHAINS = 1000 if ALL else 40


@pytest.mark.slow
@pytest.mark.parametrize(("size", "made"), WORLDS.values(), ids=WORLDS)
def test_a_supervisor_killed_at_any_call_loses_nothing_that_was_safe(quick, size, made):
    start = before(quick / "start", size, made)
    calls = calls_of(start, quick / "scratch")
    stride = DRIVE_STRIDE if start.mounted else KILL_STRIDE
    done = kill_sweep(start, quick / "scratch", iter(range(1 + size[0] % stride, calls + 1, stride)))
    assert done >= 2 * (calls // stride) - 2


@pytest.mark.slow
@pytest.mark.parametrize(("made", "stride"), [(FolderStore, 12), (OnADrive, 7)], ids=["in a folder", "on a drive"])
def test_a_first_start_killed_at_any_call_does_not_hinder_the_next(quick, made, stride):
    start = World(quick / "start", SIZES["one tiny file"], made=made)
    start.root.mkdir()
    (start.root / "script.py").write_text("pass\n")
    calls = calls_of(start, quick / "scratch")
    assert kill_sweep(start, quick / "scratch", iter(range(1, calls + 1, 1 if ALL else stride))) > 50


@pytest.mark.slow
@pytest.mark.parametrize("made", [FolderStore, OnADrive], ids=["in a folder", "on a drive"])
@pytest.mark.parametrize("seed", range(CHAINS // 20))
def test_turn_after_turn_is_killed_on_two_machines_and_the_last_one_still_goes_on(quick, seed, made):
    start, chance = before(quick / "start", made=made), random.Random(seed)
    for _ in range(10):
        chain(start, quick, chance, deaths=6)


def test_a_story_nobody_disturbs_is_whole(quick):
    start = before(quick / "start")
    world = start.copy(quick / "copy")
    story(world.turn("second"), lambda _: None, 3)
    laws_hold(world)


def test_what_a_dead_session_of_this_machine_staged_is_adopted_with_all_rows_of_its_log(quick):
    world = before(quick / "start")
    dead = world.turn("machine")
    dead.begin()
    dead.publish(dead.stage())
    dead.stage()
    newest = dead.stage()
    turn = world.turn("machine")
    ready = turn.begin()
    assert ready.folder == str(newest)
    assert ready.adopted
    assert not ready.durable
    it_resumes_from(world, turn, ready, max(world.safe))
    assert isinstance(turn.publish(newest), ev.Durable)
    the_log_is_whole(world, dead.step)
    laws_hold(world)


def test_an_adopted_checkpoint_and_one_staged_again_at_its_step_are_two(quick):
    world = before(quick / "start")
    dead = world.turn("machine")
    dead.begin()
    adopted = dead.stage()
    turn = world.turn("machine")
    assert turn.begin().adopted
    first = turn.publish(adopted)
    again = turn.stage(0)
    assert again.name == adopted.name
    second = turn.publish(again)
    assert first.id < second.id
    assert turn.restore().folder == str(again)
    laws_hold(world)


def test_a_staged_checkpoint_whose_log_was_lost_is_not_adopted_because_its_rows_would_be_missing(quick):
    world = before(quick / "start")
    dead = world.turn("machine")
    dead.begin()
    dead.publish(dead.stage())
    dead.stage()
    dead.storing.local.step_log.write_bytes(b"")
    turn = world.turn("machine")
    ready = turn.begin()
    assert ready.id == max(world.safe)
    laws_hold(world)


def test_a_staged_folder_half_removed_is_passed_over_and_said(quick):
    world = before(quick / "start")
    dead = world.turn("machine")
    dead.begin()
    dead.publish(dead.stage())
    newest = dead.stage()
    (newest / "checkpoint.json").unlink()
    turn = world.turn("machine")
    ready = turn.begin()
    assert ready.id == max(world.safe)
    assert "checkpoint.json is missing" in ready.skipped[0]


def test_a_trainer_that_died_alone_goes_on_from_the_local_disk_while_the_store_is_away(quick):
    world = before(quick / "start")
    turn = world.turn("machine")
    turn.begin()
    turn.publish(turn.stage())
    newest = turn.stage()
    (world.root / "store").rename(world.root / "away")
    ready = turn.restore()
    assert ready.folder == str(newest)
    assert not ready.durable


def test_beginning_anew_holds_for_the_whole_session(quick):
    world = before(quick / "start")
    turn = world.turn("machine")
    assert turn.begin(afresh=True).id is None
    assert turn.restore().id is None
    turn.publish(turn.stage())
    assert turn.restore().id == max(world.safe)
