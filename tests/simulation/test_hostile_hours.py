"""Hostile hours in a folder: the real core and the real use cases, in virtual time, with somebody who sees everything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.hostile import live_through
from tests.simulation.world import CALM, HOSTILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # because it only reckons, which a busy machine does slowly
HOURS = 150.0  # of each seed; benchmarks/simulate.py lives through more
SURVIVED = (
    "Durable", "PublishFailed", "Retained", "FenceUnreadable", "JournalFailed", "SetupFailed", "TrainerExited",
    "shared files",
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, *(pytest.param(each, marks=pytest.mark.more) for each in (1001, 2001, 3001))])
def test_no_invariant_breaks_and_every_run_ends_as_the_uninterrupted_one(seed):
    for report in live_through(HOURS, seed, drive=False):
        assert report.finished
    assert report.hours >= HOURS
    assert report.machines > HOURS
    assert all(report.counts.get(name) for name in SURVIVED)


def test_a_calm_run_takes_one_machine_one_session_and_nothing_goes_wrong():
    for report in live_through(0.2, 7, CALM, each_hours=1.0, drive=False):
        assert report.sessions >= 1
    assert report.finished == report.sessions == 1
    assert not {"PublishFailed", "SetupFailed", "FENCED", "FenceUnreadable", "JournalFailed"} & set(report.counts)


def test_zombies_that_write_last_are_met_and_do_no_harm():
    zombies = replace(
        HOSTILE, pause_at_op=0.01, die_at_op=0.0, machine_life_s=None, pause_s=1500.0, meddling_every_s=900.0
    )
    *_, report = live_through(24.0, 50, zombies, drive=False)
    assert report.counts["FENCED"] >= 5
