"""Hostile hours on a mounted drive: all that tests/simulation/virtual_drive.py does to its users, on up to three machines."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.hostile import live_through
from tests.simulation.virtual_drive import Drive, Habits
from tests.simulation.world import CALM, HOSTILE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # because it only reckons, which a busy machine does slowly
HOURS = 150.0  # of each seed; benchmarks/simulate.py lives through more
SURVIVED = (
    "Durable", "Unconfirmed", "PublishFailed", "Retained", "FenceUnreadable", "JournalFailed", "SetupFailed", "FENCED",
    "TrainerExited", "shared files", "twins", "twin folders", "writes broken off", "caches lost", "lies of the client",
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, *(pytest.param(each, marks=pytest.mark.more) for each in (1001, 2001, 3001))])
def test_no_invariant_breaks_and_every_run_ends_as_the_uninterrupted_one(seed):
    for report in live_through(HOURS, seed, drive=True):
        assert report.finished
    assert report.hours >= HOURS
    assert report.machines > HOURS
    assert all(report.counts.get(name) for name in SURVIVED)


def test_a_calm_run_takes_one_session_and_nothing_goes_wrong():
    for report in live_through(0.2, 7, replace(CALM, twin=0.0), each_hours=1.0, drive=True):
        assert report.finished
    assert not {"PublishFailed", "SetupFailed", "FenceUnreadable", "JournalFailed"} & set(report.counts)


def lived(seed: int, hashes: str) -> str:
    code = f"from tests.simulation.hostile import live_through as live; print(*live(0.1, {seed}, drive=True, troubled=True))"
    order = [sys.executable, "-c", code]
    environ = os.environ | {"PYTHONHASHSEED": hashes}
    root = Path(__file__).parents[2]
    return subprocess.run(order, env=environ, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize("seed", [6, 7])
def test_a_seed_is_one_history_whatever_the_hashes_of_the_process(seed):
    assert lived(seed, "1") == lived(seed, "2")


def test_zombies_that_write_last_are_met_and_do_no_harm():
    zombies = replace(
        HOSTILE, pause_at_op=0.01, die_at_op=0.0, machine_life_s=None, pause_s=1500.0, meddling_every_s=900.0
    )
    *_, report = live_through(30.0, 50, zombies, drive=True)
    assert report.counts["FENCED"] >= 5


@pytest.mark.parametrize("seed", range(8))
def test_what_another_machine_reads_whole_under_the_name_of_a_twin_is_there_for_the_observer(seed, tmp_path):
    world = World(seed, tmp_path)
    drive = Drive(world, Habits(0.0, 1.0, torn=1.0, twin=1.0, lie=0.0))
    mine = world.machine()
    drive.mount(mine).put("run/manifest.json", b"all of it")
    while not drive.copies("run/manifest.json") and drive.mount(world.machine()).seen("run/manifest.json") is None:
        world.run_until(world.now + 0.1)
    mine.die()
    world.run_until(world.now + 100.0)
    look = drive.mount(world.machine())
    read = [look.seen(f"run/{each.name}") for each in look.listing("run")]
    assert [each for each in read if each == b"all of it"] == drive.copies("run/manifest.json")


def test_an_adopted_checkpoint_and_one_staged_again_at_its_step_are_not_taken_for_one():
    for report in live_through(4.0, 20388, drive=True):
        assert report.finished
