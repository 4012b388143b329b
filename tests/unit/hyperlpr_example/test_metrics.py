"""What counts as read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlpr_example.metrics import Accuracy, edit_distance, measure

texts = st.text("皖苏AB12", max_size=8)


def test_exact_counts_whole_plates_only():
    accuracy = measure(["皖A12345", "皖A12346"], ["皖A12345", "皖A12345"])
    assert accuracy == Accuracy(plates=2, exact=0.5, characters=1 - 1 / 14, last_six=0.5)


def test_a_wrong_province_keeps_the_last_six():
    assert measure(["苏A12345"], ["皖A12345"]).last_six == 1.0


def test_a_missing_character_costs_one_edit():
    assert measure(["皖A1234"], ["皖A12345"]).characters == pytest.approx(6 / 7)


def test_rubbish_is_never_worse_than_nothing_read():
    assert measure(["皖A12345皖A12345皖A12345"], ["苏B67890"]).characters == 0.0


def test_no_plates_give_zeros():
    assert measure([], []) == Accuracy(0, 0.0, 0.0, 0.0)


def test_accuracy_is_shown_on_one_line():
    line = "exact 71.2 %  characters 94.8 %  last six 83.0 %  (480 plates)"
    assert str(Accuracy(480, 0.712, 0.948, 0.83)) == line


@given(texts, texts)
def test_edit_distance_is_symmetric_and_zero_only_for_equal_texts(one, other):
    distance = edit_distance(one, other)
    assert distance == edit_distance(other, one)
    assert (distance == 0) == (one == other)
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))


@given(texts, texts, texts)
def test_a_detour_is_never_shorter(one, middle, other):
    assert edit_distance(one, other) <= edit_distance(one, middle) + edit_distance(middle, other)
