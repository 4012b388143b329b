"""A point in time on both clocks."""

from __future__ import annotations

from supervisor.core.instant import Instant


def test_only_the_clock_that_never_jumps_measures():
    before, after = Instant(mono_s=10.0, wall_s=5000.0), Instant(mono_s=13.0, wall_s=100.0)
    assert after.since(before) == 3.0
    assert after > before


def test_later_moves_both_clocks():
    assert Instant(10.0, 5000.0).later(2.5) == Instant(12.5, 5002.5)
