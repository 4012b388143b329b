"""What a step sees follows from the seed and the step alone."""

from __future__ import annotations

import collections

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from hyperlpr_example.alphabet import decode  # noqa: E402
from hyperlpr_example.augment import drawn_looks  # noqa: E402
from hyperlpr_example.batches import Mixture, ahead, order  # noqa: E402
from hyperlpr_example.in_torch.batches import Batches, augmented  # noqa: E402
from hyperlpr_example.plates import LabelledPlates  # noqa: E402

CPU = torch.device("cpu")


def plates(count, first=0):
    pictures = np.random.default_rng(first).integers(0, 256, (count, 3, 40, 160), np.uint8)
    return LabelledPlates(pictures, [f"皖A{first + index:05d}" for index in range(count)])


def batches(*sources, seed=0):
    return Batches(Mixture(list(sources), seed), CPU)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("pictures", "classes", "lengths"))


def test_every_plate_is_seen_once_before_any_is_seen_twice():
    found = order(10, seed=3, first=0, count=30)
    for round_ in found.reshape(3, 10):
        assert sorted(round_) == list(range(10))
    assert not (found[:10] == found[10:20]).all()


def test_the_order_can_be_entered_anywhere():
    whole = order(7, seed=1, first=0, count=50)
    assert (order(7, seed=1, first=13, count=20) == whole[13:33]).all()


def test_a_batch_is_the_same_whenever_it_is_made():
    made = batches((plates(9), 3), (plates(5, first=100), 2), seed=4)
    late = made.batch(17)
    assert same(late, made.batch(17))
    assert not same(late, made.batch(18))
    assert late.pictures.shape == (5, 3, 160, 40)
    assert late.lengths.tolist() == [7] * 5


def test_batches_made_ahead_are_those_made_at_once():
    at_once = batches((plates(9), 4))
    made = list(ahead(at_once.batch, range(5, 12)))
    assert [step for step, _ in made] == list(range(5, 12))
    assert all(same(batch, at_once.batch(step)) for step, batch in made)


def test_plates_of_all_sources_are_in_a_batch_with_their_own_texts():
    mixture = Mixture([(plates(9), 3), (plates(5, first=100), 2)], seed=4)
    chosen = mixture.drawn(3).chosen
    assert (chosen[:3] < 9).all()
    assert (chosen[3:] >= 9).all()
    assert decode(mixture.classes[chosen[4]].tolist()[:7]) == f"皖A{100 + chosen[4] - 9:05d}"


def test_making_batches_touches_no_global_random_state():
    before = torch.get_rng_state()
    batches((plates(4), 4)).batch(0)
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
    looks = [drawn_looks(1, np.random.default_rng(index)) for index in range(20)]
    seen = torch.cat([augmented(torch.from_numpy(picture), look) for look in looks])
    assert seen.shape == (20, 3, 160, 40)
    assert (seen[:, :, 140].mean((1, 2)) > seen[:, :, 20].mean((1, 2)) + 0.2).all()


def test_looks_differ_from_picture_to_picture():
    looks = collections.Counter()
    seen = augmented(torch.full((6, 3, 40, 160), 128, dtype=torch.uint8), drawn_looks(6, np.random.default_rng(0)))
    for picture in seen:
        looks[round(float(picture.mean()), 4)] += 1
    assert len(looks) == 6
