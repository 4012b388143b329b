"""Checkpoints on their way: one upload at a time, the newest waits, only what is proved is safe."""

from __future__ import annotations

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.messages import Beat, Save, SaveFailed, Staged
from supervisor.core.session import Config, SaveEvery
from tests.unit.core.told import HERE, Told, running


def staged(step: int) -> ev.TrainerSaid:
    return ev.TrainerSaid(Staged(step, f"/s/step-{step}", 9, "due", 0.2, 0.5))


def durable(step: int) -> ev.Durable:
    return ev.Durable(f"/s/step-{step}", CheckpointId(3, step, "mine", 1), 9, 4.0, "fsync")


def saves_asked(told: Told) -> list:
    return [each for each in told.asked(do.Tell) if isinstance(each.message, Save)]


def test_a_staged_checkpoint_is_published_then_old_ones_are_removed():
    told = running()(staged(10))
    assert told.asked(do.Publish) == [do.Publish("/s/step-10", 10)]
    assert told.session.saves.durable is None
    told(ev.Submitted("/s/step-10", CheckpointId(3, 10, "mine", 1), 9))
    assert told.session.saves.durable is None
    assert told(durable(10)).asked(do.Retain)
    assert told.session.saves.durable.step == 10


def test_while_one_is_on_its_way_the_newest_waits_and_the_ones_between_are_dropped():
    told = running()(staged(10))
    assert not told(staged(20)).asked(do.Publish)
    assert told(staged(30)).asked(do.Discard) == [do.Discard("/s/step-20")]
    told(durable(10))
    assert told.asked(do.Publish) == [do.Publish("/s/step-30", 30)]
    assert told.asked(do.Discard) == [do.Discard("/s/step-10")]


def test_the_newest_stays_on_the_local_disk_even_when_it_is_durable():
    told = running()(staged(10), durable(10))
    assert not told.asked(do.Discard)
    assert told(staged(20)).asked(do.Discard) == [do.Discard("/s/step-10")]


def test_a_failed_upload_is_tried_again_after_a_wait_that_grows():
    told = running(Config(save_every=SaveEvery("steps", 5)))(staged(10))
    waits = []
    said = []
    for _ in range(5):
        failed_s = told(ev.PublishFailed("/s/step-10", "No space left on device")).now.mono_s
        said += told.asked(do.Say)
        waits.append(told.until(do.Publish).now.mono_s - failed_s)
    assert waits == [1, 2, 4, 8, 16]
    assert all("nothing of this session is safe" in each.hint for each in said)
    assert len(said) == 3, "after the tries 1, 2 and 4: a store that is away for hours does not fill the screen"


def test_a_drive_that_is_full_for_days_raises_nothing():
    told = running(Config(save_every=SaveEvery("steps", 5)))(staged(10))
    for _ in range(1200):
        told(ev.PublishFailed("/s/step-10", "No space left on device"))
        told(ev.Woke(), ev.FenceSeen(HERE), after_s=29.0)(ev.Woke(), ev.FenceSeen(HERE), after_s=29.0)
        told(ev.Woke(), after_s=5.0)
    assert told.session.saves.failures == 1200


def test_a_newer_one_takes_the_turn_of_one_that_failed():
    told = running()(staged(10), staged(20), ev.PublishFailed("/s/step-10", "Input/output error"))
    assert told.asked(do.Discard) == [do.Discard("/s/step-10")]
    assert told.until(do.Publish).asked(do.Publish) == [do.Publish("/s/step-20", 20)]


def test_a_folder_that_is_damaged_is_given_up_and_training_goes_on():
    told = running()(staged(10), ev.PublishFailed("/s/step-10", "state.json is missing", hopeless=True))
    assert told.asked(do.Discard) == [do.Discard("/s/step-10")]
    assert not told.session.saves.waiting
    assert told(staged(20)).session.saves.waiting == "/s/step-20"


def test_a_failed_save_is_said_and_asked_for_again():
    told = running()
    while not saves_asked(told.wake()):
        pass
    told(ev.TrainerSaid(SaveFailed(10, "No space left on device")))
    assert "step 10" in told.asked(do.Say)[0].words
    asked_s = told.now.mono_s
    while not saves_asked(told.wake()):
        pass
    assert told.now.mono_s - asked_s <= 30


def test_a_trainer_that_did_not_hear_is_asked_to_save_again():
    told = running()
    asked_at = []
    while len(asked_at) < 3:
        if saves_asked(told.until(do.Tell)):
            asked_at.append(told.now.mono_s)
    assert asked_at[1] - asked_at[0] > 60
    assert told.session.saves.asked


def test_the_first_save_comes_early_and_the_interval_follows_from_what_it_cost():
    told = running()
    began_s = told.now.mono_s
    assert told.until(do.Tell).now.mono_s - began_s == 5
    told(ev.TrainerSaid(Staged(10, "/s/step-10", 9, "due", 2.0, 0.5)), durable(10))
    first_s = told.now.mono_s
    while not saves_asked(told.until(do.Tell)):
        pass
    assert 290 < told.now.mono_s - first_s < 300


@pytest.mark.parametrize(
    ("staged", "least_s", "most_s"),
    [
        (Staged(10, "/s/step-10", 9, "due", 2.0, 0.5, slow_s=6.0), 580, 590),  # the steps beside the writing cost too
        (Staged(10, "/s/step-10", 9, "due", 0.01, 300.0), 355, 365),  # the next save waits for the disk
    ],
)
def test_the_interval_knows_what_a_save_costs_beside_the_pause(staged, least_s, most_s):
    told = running()
    told.until(do.Tell)
    told(ev.TrainerSaid(staged), durable(10))
    first_s = told.now.mono_s
    while not saves_asked(told.until(do.Tell)):
        pass
    assert least_s < told.now.mono_s - first_s < most_s


def test_one_save_that_slowed_the_loop_by_chance_counts_for_a_third():
    told = running()
    for step, slow_s in ((10, 1.0), (20, 11.0)):
        told(ev.TrainerSaid(Staged(step, f"/s/step-{step}", 9, "due", 0.0, 0.5, slow_s=slow_s)), durable(step))
    assert told.session.saves.slow_s == pytest.approx(4.0)


def test_a_trainer_that_counts_by_itself_is_not_asked():
    told = running(Config(save_every=SaveEvery("steps", 100)))
    for step in range(1, 60):
        told(ev.TrainerSaid(Beat(step, "step")), after_s=29.0)
        assert not saves_asked(told.wake())
