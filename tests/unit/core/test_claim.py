"""Who may write: the same answer for every reader of the same listing, and no epoch twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.claim import Rank, Sighting, highest, judge, may_succeed, next_epoch, rank_of
from tests.unit.core.draws import NAMES, RANKS


@given(RANKS)
def test_a_folder_bears_its_rank(rank):
    assert rank_of(str(rank)) == rank
    assert rank_of(f"{rank} (1)") == rank


@pytest.mark.parametrize(
    "name", ["", "run.json", "e1-a", "e00000001", "e00000001-", "e00000001-A", "x-e00000001-a", "e00000001-a.tmp"]
)
def test_other_names_bear_none(name):
    assert rank_of(name) is None


@given(NAMES, RANKS, st.randoms(use_true_random=False))
def test_every_reader_of_a_listing_judges_alike(names, mine, chance):
    assert judge(names, mine) == judge(chance.sample(names, len(names)), mine)


@given(NAMES, RANKS)
def test_exactly_the_highest_may_write(names, mine):
    everybody = {mine, *filter(None, map(rank_of, names))}
    writers = [rank for rank in everybody if judge([*names, str(mine)], rank) is None]
    assert writers == [max(everybody)]


@given(NAMES)
def test_a_new_epoch_is_above_every_epoch_in_any_name(names):
    top = highest(names)
    assert next_epoch(names) == (1 if top is None else top.epoch + 1)
    assert all(rank.epoch < next_epoch(names) for rank in filter(None, map(rank_of, names)))


@given(NAMES, RANKS)
def test_seeing_more_never_gives_back_the_right_to_write(names, mine):
    if judge(names[:1], mine):
        assert judge(names, mine)


@pytest.mark.parametrize(
    ("sighting", "silent_s", "may"),
    [
        (None, 0, True),
        (Sighting(Rank(1, "a")), 0, False),
        (Sighting(Rank(1, "a")), 150, True),
        (Sighting(Rank(1, "a"), end="stopped"), 0, True),
        (Sighting(Rank(1, "a"), alive=False), 0, True),
        (Sighting(Rank(1, "a"), alive=True), 0, False),
        (Sighting(Rank(1, "a"), alive=True), 150, True),
    ],
)
def test_when_a_run_may_be_taken_over_without_asking(sighting, silent_s, may):
    assert may_succeed(sighting, silent_s=silent_s, silence_s=150) is may
