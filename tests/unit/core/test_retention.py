"""Nothing goes unless K newer ones are DURABLE, and each that stays has its reason."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.checkpoint import CheckpointId
from supervisor.core.retention import BEFORE_NAN, Kept, Policy, plan
from tests.unit.core.draws import IDS

KEPT = st.builds(
    Kept, IDS, st.booleans(), st.booleans(), st.one_of(st.none(), st.floats(allow_nan=False)),
    st.sampled_from(["good", "doubtful", "spoiled"]),
)  # fmt: skip
STORED = st.lists(KEPT, max_size=12, unique_by=lambda each: each.id)


@st.composite
def policies(draw):
    return Policy(draw(st.integers(0, 4)), draw(st.sets(IDS, max_size=3)), draw(st.sampled_from([None, "min", "max"])))


@given(STORED, policies())
def test_nothing_goes_unless_enough_newer_ones_are_durable(stored, policy):
    gone = plan(stored, policy).remove
    for id_ in gone:
        newer = [each for each in stored if each.id > id_ and each.durable and not each.broken]
        assert len(newer) >= max(2, policy.newest)
        assert not {each.id for each in newer[-1:]} & set(gone) or len(newer) > max(2, policy.newest)


@given(STORED, policies())
def test_the_newest_durable_ones_stay(stored, policy):
    durable = sorted((each.id for each in stored if each.durable and not each.broken), reverse=True)
    assert not set(durable[: max(2, policy.newest)]) & set(plan(stored, policy).remove)


@given(STORED, policies())
def test_everything_is_either_kept_with_a_reason_or_removed(stored, policy):
    made = plan(stored, policy)
    assert set(made.keep) | set(made.remove) == {each.id for each in stored}
    assert not set(made.keep) & set(made.remove)
    assert all(made.keep.values())
    assert list(made.remove) == sorted(made.remove)


@given(STORED, policies(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order(stored, policy, chance):
    assert plan(stored, policy).remove == plan(chance.sample(stored, len(stored)), policy).remove


@given(STORED, policies())
def test_pins_and_what_is_ahead_stay(stored, policy):
    gone = set(plan(stored, policy).remove)
    assert not gone & set(policy.pins)
    durable = [each.id for each in stored if each.durable and not each.broken]
    assert not {each.id for each in stored if each.id > max(durable, default=each.id)} & gone


@given(STORED, policies())
def test_removing_and_planning_again_removes_nothing_more(stored, policy):
    gone = set(plan(stored, policy).remove)
    left = [each for each in stored if each.id not in gone]
    assert not plan(left, policy).remove


def test_the_best_stays():
    stored = [Kept(CheckpointId(1, step, "a", 1), durable=True, score=abs(step - 2)) for step in range(9)]
    assert CheckpointId(1, 2, "a", 1) in plan(stored, Policy(3, best="min")).keep
    assert CheckpointId(1, 2, "a", 1) in plan(stored, Policy(3)).remove


@given(STORED, policies())
def test_the_last_one_before_a_loss_that_is_no_number_never_goes(stored, policy):
    good = [each for each in stored if not each.broken and each.quality == "good"]
    gone = plan(stored, policy).remove
    assert max((each.id for each in good), default=None) not in gone
    assert max((each.id for each in good if each.durable), default=None) not in gone


@given(STORED, policies())
def test_the_last_doubtful_one_stays_until_a_good_one_is_newer(stored, policy):
    whole = {each.id: each.quality for each in stored if not each.broken}
    newest = max((id_ for id_, quality in whole.items() if quality == "doubtful"), default=None)
    if newest is not None and not any(quality == "good" and id_ > newest for id_, quality in whole.items()):
        assert newest not in plan(stored, policy).remove


def test_why_it_stays_is_said_and_afterwards_it_may_go():
    steps = [CheckpointId(1, step, "a", 1) for step in range(400, 1000, 100)]
    bad = [Kept(each, durable=True, quality="good" if each.step <= 400 else "spoiled") for each in steps]
    assert plan(bad, Policy(3)).keep[steps[0]] == BEFORE_NAN
    assert plan(bad, Policy(3)).remove == tuple(steps[1:3])
    over = [*bad, Kept(CheckpointId(1, 1000, "a", 1), durable=True)]
    assert steps[0] in plan(over, Policy(3)).remove
