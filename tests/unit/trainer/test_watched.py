"""What of the logged values counts as a trouble, and how it is told: once, with the last step at which all was well."""

from __future__ import annotations

import math

import pytest

from supervisor.core.messages import Trouble
from supervisor.trainer.rows import Rows
from supervisor.trainer.watched import SPIKE_FACTOR, SPIKE_SEEN_MIN, SPIKE_WINDOW, TOLD_MAX, Watch


@pytest.fixture
def told():
    return []


def watch(told, names=()):
    return Watch(names, told.append)


def test_a_loss_that_is_no_number_is_told_with_the_last_step_at_which_it_was_one(told):
    watched = watch(told)
    for step, loss in enumerate([1.0, 0.5, math.nan, math.inf]):
        watched.see(step, {"loss": loss})
    assert told == [Trouble(2, "loss", "nan", "nan", 1)]


def test_what_was_a_number_again_in_between_is_told_anew_and_so_many_times_at_most(told):
    watched = watch(told)
    for step in range(100):
        watched.see(step, {"loss": math.nan if step % 2 else 1.0})
    assert [(each.step, each.fine) for each in told] == [(step, step - 1) for step in range(1, 2 * TOLD_MAX, 2)]


def test_without_a_good_step_since_the_checkpoint_that_itself_is_suspect(told):
    watched = watch(told)
    watched.begins(20)
    watched.see(29, {"train_loss": -math.inf})
    assert told == [Trouble(29, "train_loss", "-inf", "nan", 19)]


def test_only_losses_are_watched_unless_others_are_named(told):
    watch(told).see(0, {"val_iou": math.nan, "perplexity": math.inf, "words": "loss"})
    assert told == []
    watch(told, ["perplexity"]).see(0, {"loss": math.nan, "perplexity": math.inf})
    assert [each.name for each in told] == ["perplexity"]


def test_a_step_with_a_bad_and_a_good_loss_is_no_good_step(told):
    watched = watch(told)
    watched.see(3, {"loss": 1.0})
    watched.see(4, {"loss": 1.0, "val_loss": math.nan})
    watched.see(5, {"aux_loss": math.nan})
    assert [(each.step, each.fine) for each in told] == [(4, 3), (5, 3)]


def test_a_spike_is_judged_by_the_median_once_enough_is_known(told):
    watched = watch(told)
    for step in range(SPIKE_SEEN_MIN - 1):
        watched.see(step, {"loss": 1.0 if step else 1e9})
    watched.see(SPIKE_SEEN_MIN - 1, {"loss": 2 * SPIKE_FACTOR})
    assert told == [], "too few are known yet"
    watched.see(SPIKE_SEEN_MIN, {"loss": SPIKE_FACTOR})
    assert told == [], "at the limit is not over it"
    watched.see(SPIKE_SEEN_MIN + 1, {"loss": SPIKE_FACTOR + 0.5})
    assert told == [Trouble(SPIKE_SEEN_MIN + 1, "loss", "20.5", "spike", SPIKE_SEEN_MIN)]


def test_the_window_moves_with_the_loss(told):
    watched = watch(told)
    for step in range(3 * SPIKE_WINDOW):
        watched.see(step, {"loss": 1.001 ** -(step % 7) * (1.0 if step < SPIKE_WINDOW else 0.01)})
    watched.see(3 * SPIKE_WINDOW, {"loss": 0.5})
    assert [(each.kind, each.step) for each in told] == [("spike", 3 * SPIKE_WINDOW)]


def test_losses_under_zero_have_no_spikes(told):
    watched = watch(told)
    for step in range(200):
        watched.see(step, {"loss": -1.0 if step < 150 else 1000.0})
    assert told == []


def test_a_row_that_is_turned_into_numbers_twice_is_judged_once(told):
    watched = watch(told)
    rows = Rows(lambda *_: None, watched.see)
    rows.add(0, {"loss": 1.0})
    rows.flush()
    rows.add(0, {"more": 2.0})
    rows.add(1, {"loss": math.nan})
    assert [row["step"] for row in rows.taken(2)] == [0, 1]
    assert told == [Trouble(1, "loss", "nan", "nan", 0)]


def test_a_step_that_is_left_out_has_a_row_and_is_not_among_the_newest_values():
    rows = Rows(lambda *_: None)
    rows.add(0, {"loss": 1.0})
    rows.pass_over(1)
    assert rows.taken(2) == [{"step": 0, "loss": 1.0}, {"step": 1, "skipped": True}]
    assert rows.metrics() == {"loss": 1.0}
    assert rows.holds_passed(1)
    assert not rows.holds_passed(0)


def noisy(told, losses):
    watched = Watch((), told.append, sampled=True)
    for step, loss in enumerate(losses):
        watched.see(step, {"loss": loss})
    return [each.kind for each in told]


FALLING = [2.3] * 60 + [0.0002, 0.0005, 0.0001] * 50


def test_a_small_loss_of_single_batches_that_jumps_within_what_is_small_is_noise(told):
    assert noisy(told, [*FALLING, 0.013]) == []


def test_a_loss_of_single_batches_that_was_as_large_lately_is_noise(told):
    assert noisy(told, [1.0] * 60 + [30.0] * 3 + [1.0] * 30 + [25.0]) == ["spike"], "the first of 30 alone"


def test_a_loss_of_single_batches_that_jumps_over_all_of_it_is_a_spike(told):
    assert noisy(told, [*FALLING, 1.7]) == ["spike"]
