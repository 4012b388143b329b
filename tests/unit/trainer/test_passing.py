"""Steps that are left out after a rollback: the data go on behind them, learning rates become smaller once."""

from __future__ import annotations

import pytest

from supervisor.core.errors import SetupError
from supervisor.trainer.order import Order
from supervisor.trainer.passing import MADE_BY, Passing, multiply

ONE = ("e00000003-aa", range(24, 26), 0.5)
TWO = ("e00000004-bb", range(28), 0.5)


class Stream:
    def __init__(self):
        self.left_out = 0

    def skip_steps(self, count):
        self.left_out += count


class Groups:
    def __init__(self, **values):
        self.param_groups = [dict(values), {"lr": 1.0}]


def passing(*rolled, **attached):
    said = []
    return Passing(rolled, attached, said.append), said


def test_an_order_goes_on_behind_the_samples_of_a_step():
    order = Order(40, 1)
    expected = [next(order) for _ in range(10 * 3 + 3 + 1)][-1]
    order.position = 10 * 3
    found, said = passing(ONE, data=order)
    found.tell(10)
    assert next(order) == expected
    assert said == []


def test_an_order_of_which_it_is_not_known_what_a_step_draws_is_left_alone_and_that_is_said_once():
    order = Order(40, 1)
    order.position = 31
    found, said = passing(ONE, data=order)
    found.tell(10)
    found.tell(11)
    assert order.position == 31
    assert [note.level for note in said] == ["warning"]
    assert "31 samples in 10 steps" in said[0].text


def test_what_can_leave_out_steps_is_told_of_each():
    stream = Stream()
    found, _ = passing(ONE, data=stream, model=object())
    for step in (24, 25):
        assert found.skips(step)
        found.tell(step)
    assert stream.left_out == 2
    assert not found.skips(26)


def test_what_will_be_left_out_is_said_when_the_loop_begins():
    found, said = passing(ONE, TWO, data=Stream())
    found.begins(10)
    assert said[0].text == "leaving out steps 10 to 27: data will be told"
    found, said = passing(ONE, model=object())
    found.begins(10)
    assert said[0].level == "warning"
    assert "would come again" in said[0].text
    found.begins(26)
    assert len(said) == 1, "what is behind needs no word"


def test_the_number_of_steps_that_are_left_out_is_said_and_ends_at_the_total():
    found, said = passing(ONE, TWO, data=Stream())
    found.begins(10, 100)
    assert said[0].text == "leaving out steps 10 to 27 (18 of 100): data will be told"
    found, said = passing(("e00000004-bb", range(55, 10**21), 1.0), data=Stream())
    found.begins(10, 100)
    assert said[0].text == "leaving out steps 55 to 99 (45 of 100): data will be told"


@pytest.mark.parametrize(
    "rolled", [(range(10**21),), (range(10, 61),), (range(40), range(50, 90)), (range(5, 70), range(60, 80))]
)
def test_a_run_of_which_most_would_be_left_out_is_stopped_in_two_lines(rolled):
    """A forged record in the store had all 100,000 steps of a run passed over, and the run ended as finished."""
    sessions = [(f"e0000000{number}-aa", indices, 1.0) for number, indices in enumerate(rolled)]
    said = []
    found = Passing(sessions, {}, said.append)
    with pytest.raises(SetupError, match="of 100 steps would be left out") as refused:
        found.begins(0, 100)
    assert "e00000000-aa" in refused.value.what
    assert "--trust-store" in refused.value.hint
    Passing(sessions, {}, said.append, most=True).begins(0, 100)
    assert len(said) == 1
    Passing(sessions, {}, said.append).begins(90, 100)  # behind them, or at the last few: nothing is most of the run
    Passing(sessions, {}, said.append).begins(0)  # a loop without a known end


def test_a_rate_is_applied_once_and_the_checkpoints_say_so():
    optimizer = Groups(lr=0.8, initial_lr=1.0, weight_decay=0.1)
    found, said = passing(ONE, TWO, optimizer=optimizer)
    made_by = {}
    found.slow_down(made_by, {MADE_BY: "e00000003-aa"})
    assert optimizer.param_groups == [{"lr": 0.4, "initial_lr": 0.5, "weight_decay": 0.1}, {"lr": 0.5}]
    assert made_by == {MADE_BY: "e00000003-aa e00000004-bb"}
    assert len(said) == 1
    found.slow_down(made_by, made_by)
    assert optimizer.param_groups[0]["lr"] == 0.4


def test_where_nothing_has_a_rate_it_is_said():
    found, said = passing(ONE, model=object())
    found.slow_down({}, {})
    assert [note.level for note in said] == ["warning"]


def test_without_a_rollback_nothing_is_said_or_kept():
    found, said = passing(optimizer=Groups(lr=1.0))
    made_by = {}
    found.slow_down(made_by, {})
    found.begins(0)
    assert (made_by, said, found.any) == ({}, [], False)


@pytest.mark.torch
def test_torchs_schedules_go_on_from_the_smaller_rate():
    torch = pytest.importorskip("torch", reason="needs torch")

    def made():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))

    whole, slower = made(), made()
    for each in slower:
        assert multiply(each, 0.5)
    for _ in range(5):
        for optimizer, schedule in (whole, slower):
            optimizer.step()
            schedule.step()
    assert slower[0].param_groups[0]["lr"] == 0.5 * whole[0].param_groups[0]["lr"]


@pytest.mark.torch
def test_a_rate_in_a_tensor_keeps_its_place():
    torch = pytest.importorskip("torch", reason="needs torch")
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate, capturable=False)
    held = optimizer.param_groups[0]["lr"]
    assert multiply(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is held
    assert held.item() == 0.5
