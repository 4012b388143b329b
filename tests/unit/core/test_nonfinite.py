"""Which checkpoints are from after a loss that is no number, as every machine tells it from the store."""

from __future__ import annotations

import math

import pytest

from supervisor.core.checkpoint import CheckpointId, Manifest
from supervisor.core.claim import Rank
from supervisor.core.nonfinite import Nonfinite, is_nonfinite, parse, quality

FIRST, SECOND = Rank(1, "aa"), Rank(2, "bb")
SEEN = Nonfinite(FIRST, 499, 510)


def at(step, rank=FIRST):
    return CheckpointId(rank.epoch, step, rank.writer, 1)


def told(*manifests):
    return {each.id: each for each in manifests}.get


def of(id_, *, parent=None, **metrics):
    return Manifest(id_, (), metrics=metrics, parent=parent)


def test_the_record_says_it_all_in_its_name():
    assert SEEN.name == "nan-000000499-000000510.json"
    assert parse(FIRST, SEEN.name) == SEEN
    assert parse(FIRST, "nan-000000499-000000510 (1).json") == SEEN
    assert parse(FIRST, "rollback-000000499-000000510-000000000-000000000-0-1.json") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "NaN", "nan", "Infinity", "-inf"])
def test_what_is_no_number(value):
    assert is_nonfinite(value)
    assert quality(at(1), told(of(at(1), loss=value)), ()) == "spoiled"
    assert quality(at(1), told(of(at(1), val_iou=value, loss=1.0)), ()) == "good"
    assert quality(at(1), told(of(at(1), val_iou=value, loss=1.0)), (), ["val_iou"]) == "spoiled"


@pytest.mark.parametrize("value", [0.0, 1, True, None, "diverged", ""])
def test_what_is_none_of_these(value):
    assert not is_nonfinite(value)


@pytest.mark.parametrize(("step", "known"), [(499, "good"), (500, "doubtful"), (510, "doubtful"), (511, "good")])
def test_between_the_last_good_loss_and_the_bad_one_a_checkpoint_is_doubtful(step, known):
    assert quality(at(step), told(of(at(step), loss=1.0)), [SEEN]) == known


def test_what_an_older_session_left_is_doubtful_and_what_comes_later_is_not():
    assert quality(at(505), told(of(at(505))), [Nonfinite(SECOND, 500, 505)]) == "doubtful"
    assert quality(at(505, SECOND), told(of(at(505, SECOND), loss=1.0)), [SEEN]) == "good"


def test_a_session_that_goes_on_from_a_bad_one_and_has_logged_nothing_is_bad_too():
    start = of(at(600), loss="NaN")
    silent, deeper = of(at(620, SECOND), parent=at(600)), of(at(640, SECOND), parent=at(620, SECOND))
    known = told(start, silent, deeper)
    assert quality(deeper.id, known, ()) == "spoiled"
    assert (
        quality(at(640, SECOND), told(start, silent, of(at(640, SECOND), parent=at(620, SECOND), loss=2.0)), ())
        == "good"
    )
    assert quality(at(620, SECOND), told(of(at(505)), of(at(620, SECOND), parent=at(505))), [SEEN]) == "doubtful"


def test_what_a_bad_checkpoint_was_gone_on_with_stays_bad_when_that_one_is_removed():
    inherited = Nonfinite(SECOND, 600, 0)
    assert parse(SECOND, inherited.name) == inherited
    silent, loud = of(at(640, SECOND), parent=at(620, SECOND)), of(at(640, SECOND), loss=2.0)
    assert quality(silent.id, told(silent), [inherited]) == "spoiled"
    assert quality(loud.id, told(loud), [inherited]) == "good"
    assert quality(at(500), told(of(at(500))), [inherited]) == "good"


def test_a_circle_of_parents_ends():
    assert quality(at(1), told(of(at(1), parent=at(2)), of(at(2), parent=at(1))), ()) == "good"
