"""What a step sees follows from the seed and the step alone."""

from __future__ import annotations

import collections

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from hyperlpr_example.augment import augmented  # noqa: E402
from hyperlpr_example.batches import Mixture, Plates, ahead  # noqa: E402

CPU = torch.device("cpu")


def plates(count, first=0):
    pictures = np.random.default_rng(first).integers(0, 256, (count, 3, 40, 160), np.uint8)
    return Plates(pictures, [f"皖A{first + index:05d}" for index in range(count)], CPU)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("pictures", "classes", "lengths"))


def test_every_plate_is_seen_once_before_any_is_seen_twice():
    order = plates(10).order(seed=3, first=0, count=30)
    for round_ in order.reshape(3, 10):
        assert sorted(round_) == list(range(10))
    assert not (order[:10] == order[10:20]).all()


def test_the_order_can_be_entered_anywhere():
    some = plates(7)
    whole = some.order(seed=1, first=0, count=50)
    assert (some.order(seed=1, first=13, count=20) == whole[13:33]).all()


def test_a_batch_is_the_same_whenever_it_is_made():
    mixture = Mixture([(plates(9), 3), (plates(5, first=100), 2)], seed=4)
    late = mixture.batch(17)
    assert same(late, mixture.batch(17))
    assert not same(late, mixture.batch(18))
    assert late.pictures.shape == (5, 3, 160, 40)
    assert late.lengths.tolist() == [7] * 5


def test_batches_made_ahead_are_those_made_at_once():
    mixture = Mixture([(plates(9), 4)], seed=0)
    made = list(ahead(mixture.batch, range(5, 12)))
    assert [step for step, _ in made] == list(range(5, 12))
    assert all(same(batch, mixture.batch(step)) for step, batch in made)


def test_making_batches_touches_no_global_random_state():
    before = torch.get_rng_state()
    Mixture([(plates(4), 4)], seed=0).batch(0)
    assert torch.equal(before, torch.get_rng_state())


def test_an_error_while_making_a_batch_is_not_swallowed():
    def fail(step):
        raise ZeroDivisionError(step)

    with pytest.raises(ZeroDivisionError):
        list(ahead(fail, range(3)))


def test_other_plates_than_before_are_said(capsys):
    mixture = Mixture([(plates(4), 4)], seed=0)
    mixture.load_state_dict(Mixture([(plates(4), 4)], seed=0).state_dict())
    assert capsys.readouterr().out == ""
    mixture.load_state_dict(Mixture([(plates(5), 4)], seed=0).state_dict())
    assert "not those that this run was trained on" in capsys.readouterr().out


def test_augmentation_turns_the_plate_over_and_keeps_it_recognisable():
    picture = np.zeros((1, 3, 40, 160), np.uint8)
    picture[:, :, :, 80:] = 200
    seen = torch.cat([augmented(torch.from_numpy(picture), np.random.default_rng(index)) for index in range(20)])
    assert seen.shape == (20, 3, 160, 40)
    assert (seen[:, :, 140].mean((1, 2)) > seen[:, :, 20].mean((1, 2)) + 0.2).all()


def test_looks_differ_from_picture_to_picture():
    looks = collections.Counter()
    seen = augmented(torch.full((6, 3, 40, 160), 128, dtype=torch.uint8), np.random.default_rng(0))
    for picture in seen:
        looks[round(float(picture.mean()), 4)] += 1
    assert len(looks) == 6
