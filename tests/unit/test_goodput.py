"""The arithmetic of the goodput benchmark: lives from a seed, losses and wrong resumes from ledgers, the formula."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.lives.ledger import Life, Line, allowed, read, reckon
from benchmarks.lives.results import compared
from benchmarks.lives.trace import LIFE_H_MAX, LIFE_H_MIN, lives_h
from supervisor.core import interval

TRUTH = {step: f"loss {step}" for step in range(100)}


def life(first, last, *, losses=TRUTH, step_s=0.5, began_s=0.0, slow_after=(), **more):
    """A machine that did the steps ``first`` to ``last``, two seconds after it was blank."""
    at_s, lines = began_s + 2.0, []
    for step in range(first, last + 1):
        lines.append(Line(step, losses[step], at_s, at_s + step_s))
        at_s += step_s + (0.3 if step in slow_after else 0.0)
    return Life(began_s, had=first > 0, lines=lines, **more)


def saves_after_ten(step):
    return (step + 1) % 10 == 0


def test_lives_follow_from_the_seed_and_have_the_range_of_colab():
    assert lives_h(20, 7) == lives_h(20, 7) != lives_h(20, 8)
    assert all(LIFE_H_MIN <= each <= LIFE_H_MAX for each in lives_h(500, 3))
    assert sum(lives_h(500, 3)) / 500 == pytest.approx(3.26, abs=0.05)


def test_few_lives_stand_for_the_whole_distribution_with_every_seed():
    for seed in range(50):
        drawn = sorted(lives_h(4, seed))
        assert drawn[0] < 0.82 < drawn[1] < 2.01 < drawn[2] < 4.91 < drawn[3]


def test_what_a_death_takes_are_the_steps_the_next_machine_goes_back():
    got = reckon([life(0, 24), life(20, 47), life(40, 40)], TRUTH, saves_after_ten)
    assert (got.lost, got.kept, got.wrong, got.failed) == ([5, 8], 40, 0, 0)
    assert got.step_s == pytest.approx(0.5)
    assert got.starts_s == pytest.approx([2.5, 2.5, 2.5])


def test_a_machine_that_came_to_no_step_loses_nothing_and_hides_nothing():
    got = reckon([life(0, 24), Life(0.0, had=True, raised=2), life(10, 12)], TRUTH, saves_after_ten)
    assert (got.lost, got.failed) == ([15], 3)


def test_a_save_costs_what_its_step_takes_longer_than_most():
    got = reckon([life(0, 35, slow_after=(9, 19, 29))], TRUTH, saves_after_ten)
    assert got.save_s == pytest.approx(0.3)


def test_beginning_again_at_zero_beside_a_checkpoint_is_a_failed_resume_and_not_a_wrong_one():
    again = life(0, 5)
    again.had = True
    got = reckon([life(0, 24), again], TRUTH, saves_after_ten)
    assert (got.lost, got.failed, got.wrong) == ([25], 1, 0)


def test_a_resume_from_another_state_is_wrong_once_and_what_goes_on_from_it_is_not():
    other = {step: f"other {step}" for step in range(100)}
    lives = [life(0, 24), life(20, 40, losses=other), life(35, 60, losses=other), life(50, 52, losses=other)]
    assert reckon(lives, TRUTH, saves_after_ten).wrong == 1
    assert reckon([*lives, life(22, 30)], TRUTH, saves_after_ten).wrong == 1, "back to the right one"
    twice = {step: f"third {step}" for step in range(100)}
    assert reckon([*lives, life(50, 60, losses=twice)], TRUTH, saves_after_ten).wrong == 2


def test_seconds_of_a_start_that_were_counted_and_not_waited_belong_to_it():
    assert life(0, 3, wait_s=60.0).start_s == pytest.approx(62.5)


def test_a_torn_last_line_of_a_ledger_is_no_step(tmp_path):
    book = tmp_path / "ledger.txt"
    assert read(book) == []
    book.write_text("0 0x1p+0 1.0 2.0\n1 0x1p-1 2.0 3.0\n2 0x1p")
    assert read(book) == [Line(0, "0x1p+0", 1.0, 2.0), Line(1, "0x1p-1", 2.0, 3.0)]


def test_the_formula_is_the_products_own_with_restarts():
    found = interval.best(0.5, 20.0, 10_000.0)
    share = allowed(found.every_s, 0.5, found.loss_s, 10_000.0, 100.0)
    assert share == pytest.approx(1 - found.cost - found.loss_s / 10_000 - 0.01)
    assert share == pytest.approx(0.978, abs=0.001)


def test_rows_are_compared_with_ours_and_an_unmeasured_one_with_nothing():
    rows = compared([{"row": "supervisor", "goodput": 0.8}, {"row": "a", "goodput": 0.6}, {"row": "b", "error": "no"}])
    assert [row["to_ours"] for row in rows] == [1.0, pytest.approx(0.75), None]


def test_the_waits_that_a_life_is_divided_by_are_divided_for_the_session_and_for_the_proof(tmp_path):
    code = (
        "import sys; from supervisor import wiring; from supervisor.engine.proof import times_needed\n"
        "before = wiring.open_store(f'relay:{sys.argv[1]}').traits\n"
        "from benchmarks.lives import lapse; lapse.hasten(10.0)\n"
        "after = wiring.open_store(f'relay:{sys.argv[1]}').traits\n"
        "print(before.confirm_every_s / after.confirm_every_s)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) == pytest.approx(10.0)
