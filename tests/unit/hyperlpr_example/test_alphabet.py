"""The published order of characters, and reading what the network says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlpr_example.alphabet import BLANK, CHARACTERS, CLASSES, decode, encode, read_greedily


def test_there_are_83_characters_and_the_blank_comes_last():
    assert len(CHARACTERS) == len(set(CHARACTERS)) == BLANK == 83
    assert CLASSES == 84
    assert (CHARACTERS[0], CHARACTERS[31], CHARACTERS[41], CHARACTERS[65], CHARACTERS[82]) == (
        "京",
        "0",
        "A",
        "港",
        "空",
    )


@given(st.text(CHARACTERS, max_size=9))
def test_every_text_of_plate_characters_comes_back(text):
    assert decode(encode(text)) == text


def test_a_character_that_no_plate_has_is_named():
    with pytest.raises(ValueError, match="'I' is not among"):
        encode("皖AI2345")


@given(st.text(CHARACTERS, min_size=1, max_size=8))
def test_a_plate_is_read_whatever_blanks_and_repeats_say_it(text):
    steps = [step for index in encode(text) for step in (BLANK, index, index, BLANK)]
    assert read_greedily(steps) == text


def test_a_doubled_character_needs_a_blank_between():
    a, b = encode("88")
    assert read_greedily([a, b]) == "8"
    assert read_greedily([a, BLANK, b]) == "88"


def test_the_noise_of_the_first_two_steps_can_be_dropped():
    steps = encode("京沪") + encode("皖A")
    assert read_greedily(steps) == "京沪皖A"
    assert read_greedily(steps, drop_first=2) == "皖A"


def test_a_character_cut_by_the_drop_is_still_read():
    noise = encode("京")
    assert read_greedily(noise + encode("皖皖皖"), drop_first=2) == "皖"


def test_blanks_alone_read_as_nothing():
    assert read_greedily([BLANK] * 20) == ""
