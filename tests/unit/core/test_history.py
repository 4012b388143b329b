"""One paragraph tells how the last machine ended, from what it left behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.events import HistoryRead
from supervisor.core.history import LIVES_KEPT, Story, tell, words

HOUR = 3600.0
STORIES = st.builds(
    Story,
    st.integers(1, 9),
    st.just("colab"),
    st.one_of(st.none(), st.floats(0, 1e5)),
    st.one_of(st.none(), st.just(43200.0)),
    st.sampled_from(["", "handed-over", "stopped", "succeeded", "fenced", "failed", "no-progress"]),
    st.sampled_from(["", "stopped by Ctrl-C"]),
    *[st.one_of(st.none(), st.integers(0, 999))] * 3,
    st.one_of(st.none(), st.floats(0, 9)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.dictionaries(st.just("step"), st.floats(0, 9)),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("story", "parts"),
    [
        (Story(4, end="handed-over", lived_s=11.5 * HOUR), ["session 4", "ended as planned", "11 h 30 min"]),
        (Story(4, lived_s=11.9 * HOUR, limit_s=12 * HOUR), ["reclaimed near its limit of 12 h 0 min", "11 h 54 min"]),
        (Story(4, lived_s=2 * HOUR, limit_s=12 * HOUR), ["lost early, without a word", "2 h 0 min"]),
        (Story(4, lived_s=300.0, here=True), ["was this one", "killed or crashed", "5 min"]),
        (Story(4, lived_s=HOUR, memory_available=0.02), ["memory ran out", "under 5 %"]),
        (Story(4, end="stopped", end_words="stopped by Ctrl-C"), ["was stopped by Ctrl-C"]),
        (Story(4, end="stopped"), ["was stopped by the user"]),
        (Story(4, end="succeeded"), ["finished the run"]),
        (Story(4, end="fenced"), ["gave way to another machine"]),
        (Story(4, end="failed", end_words="no disk"), ["failed (no disk)"]),
        (Story(4, lived_s=42.0, last_step=1200, durable_step=1000), ["42 s", "step 1,200", "step 1,000 was safe"]),
    ],
)
def test_each_ending_has_its_paragraph(story, parts):
    told = words(story)
    assert all(part in told for part in parts)
    assert told.endswith(".")


@given(st.lists(STORIES, max_size=6))
def test_every_story_can_be_told_and_counts(stories):
    told = tell(HistoryRead(), stories)
    assert told.lost == sum(not story.end for story in stories)
    assert 0 <= told.lost_in_a_row <= told.lost
    assert bool(told.words) == bool(stories)
    assert len(told.lives_s) <= LIVES_KEPT


@given(st.lists(STORIES, max_size=6), st.integers(0, 6))
def test_a_history_carried_on_is_the_history_told_whole(stories, cut):
    assert tell(tell(HistoryRead(), stories[:cut]), stories[cut:]).lives_s == tell(HistoryRead(), stories).lives_s
    assert (
        tell(tell(HistoryRead(), stories[:cut]), stories[cut:]).lost_in_a_row
        == tell(HistoryRead(), stories).lost_in_a_row
    )


def test_machines_lost_in_a_row_are_those_since_the_last_progress():
    lost, moved = Story(1, first_step=10, durable_step=10), Story(2, first_step=10, durable_step=20)
    assert tell(HistoryRead(), [lost, lost, lost]).lost_in_a_row == 3
    assert tell(HistoryRead(), [lost, moved, lost]).lost_in_a_row == 1


def test_only_machines_that_lived_long_tell_of_a_limit():
    early, late = Story(1, lived_s=600.0), Story(2, lived_s=7 * HOUR)
    assert tell(HistoryRead(), [early, late]).reclaimed_s == (7 * HOUR,)


def test_the_age_a_machine_reached_counts_for_its_own_platform():
    began_late = Story(1, "colab", lived_s=3 * HOUR, age_s=2 * HOUR)
    elsewhere = Story(2, "slurm", lived_s=70 * HOUR)
    assert tell(HistoryRead(), [began_late, elsewhere]).reclaimed_on == {"colab": (5 * HOUR,), "slurm": (70 * HOUR,)}


def test_a_supervisor_that_died_on_this_machine_says_nothing_of_how_long_machines_live():
    assert tell(HistoryRead(), [Story(1, "colab", lived_s=3 * HOUR, here=True)]).reclaimed_on == {}
