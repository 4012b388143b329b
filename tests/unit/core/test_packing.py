"""Packing is never guessed: without a measured, slow upload and a sample that gains clearly, files go as they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.packing import REMEMBERED, Policy, Sample, Sent, pays, upload_limits, upload_rate

MB = 1_000_000
POLICY = Policy()
ADAM = Sample(8 * MB, int(8 * MB / 1.2), 0.016)  # a ratio of 1.2 at 500 MB/s
SENT = st.lists(st.builds(Sent, st.integers(0, 10**10), st.floats(0, 5000)), max_size=6)
SAMPLES = st.builds(Sample, st.integers(0, 10**8), st.integers(0, 10**8), st.floats(0, 100))
RATES = st.floats(1, 1e11)


def test_nothing_is_packed_before_an_upload_was_measured():
    assert upload_rate([], POLICY) is None
    assert upload_rate([Sent(300, 9.0)], POLICY) is None
    assert not upload_limits(10**12, None, POLICY)


def test_a_slow_upload_of_a_large_state_is_packed_and_a_fast_one_or_a_small_state_is_not():
    slow, fast = upload_rate([Sent(300 * MB, 30.0)], POLICY), upload_rate([Sent(300 * MB, 0.3)], POLICY)
    assert slow == 10 * MB
    assert upload_limits(300 * MB, slow, POLICY)
    assert not upload_limits(40 * MB, slow, POLICY)
    assert not upload_limits(300 * MB, fast, POLICY)
    assert pays(ADAM, slow, POLICY)
    assert not pays(ADAM, 100 * MB, POLICY)


def test_what_hardly_gets_smaller_is_not_packed_however_slow_the_upload():
    assert not pays(Sample(8 * MB, int(7.8 * MB), 0.001), 1.0, POLICY)


def test_an_upload_that_becomes_fast_is_noticed_after_a_few():
    sent = [Sent(300 * MB, 60.0)] * 5 + [Sent(300 * MB, 0.5)] * REMEMBERED
    assert not upload_limits(300 * MB, upload_rate(sent, POLICY), POLICY)


@given(SENT)
def test_the_rate_lies_between_those_that_were_measured(sent):
    rate = upload_rate(sent, POLICY)
    telling = [each for each in sent if each.bytes >= POLICY.bytes_min][-REMEMBERED:]
    assert (rate is None) == (sum(each.seconds for each in telling) == 0)
    if rate is not None and all(each.seconds > 1e-6 for each in telling):
        rates = [each.bytes / each.seconds for each in telling]
        assert min(rates) * 0.999 <= rate <= max(rates) * 1.001


@given(SAMPLES, RATES)
def test_where_packing_pays_it_is_safe_sooner(sample, rate):
    if pays(sample, rate, POLICY):
        assert sample.seconds + sample.packed_bytes / rate < sample.bytes / rate


@given(SAMPLES, RATES, st.floats(1.0, 100))
def test_the_slower_the_upload_the_sooner_it_pays(sample, rate, slower):
    assert not pays(sample, rate, POLICY) or pays(sample, rate / slower, POLICY)
