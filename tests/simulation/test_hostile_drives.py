"""Hostile hours on a mounted drive: all that tests/simulation/virtual_drive.py does to its users, on up to three machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.hostile import live_through
from tests.simulation.world import CALM, HOSTILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # because it only reckons, which a busy machine does slowly
HOURS = 375.0
SURVIVED = (
    "Durable", "Unconfirmed", "PublishFailed", "Retained", "FenceUnreadable", "JournalFailed", "SetupFailed", "FENCED",
    "TrainerExited", "shared files", "twins", "twin folders", "writes broken off", "caches lost", "lies of the client",
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 1001, 2001, 3001])
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


def test_zombies_that_write_last_are_met_and_do_no_harm():
    zombies = replace(
        HOSTILE, pause_at_op=0.01, die_at_op=0.0, machine_life_s=None, pause_s=1500.0, meddling_every_s=900.0
    )
    *_, report = live_through(30.0, 50, zombies, drive=True)
    assert report.counts["FENCED"] >= 5
