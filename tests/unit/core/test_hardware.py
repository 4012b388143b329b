"""What is said when a run goes on on other hardware: only what has changed, and what to do about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.hardware import changes

T4 = {
    "device": "Tesla T4",
    "device_memory_gb": "15.8",
    "device_bfloat16": "no",
    "framework": "torch 2.13.0",
    "python": "3.11.7",
}
A100 = {**T4, "device": "NVIDIA A100-SXM4-40GB", "device_memory_gb": "42.4", "device_bfloat16": "yes"}
CPU = {"device": "cpu", "framework": "torch 2.13.0", "python": "3.11.7"}


@given(st.dictionaries(st.sampled_from([*T4]), st.text(max_size=8)))
def test_nothing_is_said_where_nothing_has_changed_and_nothing_breaks_it(made_by):
    assert changes(made_by, made_by) == []
    changes(made_by, T4)
    changes(A100, made_by)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (T4, A100, ["saved on Tesla T4, going on on NVIDIA A100", "42 GB of memory instead of 16", "without a loss scale"]),
        (A100, T4, ["last bits", "halve the batch", "needs a loss scale"]),
        (T4, CPU, ["going on on the CPU", "no accelerator here"]),
        (CPU, T4, ["saved on the CPU", "larger batch"]),
    ],
)  # fmt: skip
def test_what_changes_with_the_device_comes_with_advice(before, now, said):
    told = changes(before, now)
    assert [words in line for words, line in zip(said, told, strict=True)] == [True] * len(said)


def test_other_versions_are_named():
    told = changes(T4, {**T4, "framework": "torch 2.14.0", "python": "3.12.1"})
    assert ["torch 2.13.0" in told[0], "Python 3.12.1" in told[1]] == [True, True]


def test_a_checkpoint_that_says_nothing_of_its_maker_brings_no_words():
    assert changes({}, T4) == []
