"""Kill -9 of anything at any time, resumed on blank machines: the run ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.kills import Plan, differences, interrupted, reference
from benchmarks.machines import TOY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
ARGUMENTS = ("--steps", "120", "--step-ms", "10")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, dict[str, Any]]:
    plan = Plan(TOY, ARGUMENTS, save_every="200ms", kills_max=3, python=sys.executable)
    wanted, span_s = reference(plan, tmp_path_factory.mktemp("reference"))
    return Plan(TOY, ARGUMENTS, "200ms", 3, sys.executable, span_s), wanted


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_was_killed_ends_like_one_that_was_not(
    uninterrupted: tuple[Plan, dict[str, Any]], tmp_path: Path, seed: int
) -> None:
    plan, wanted = uninterrupted
    outcome = interrupted(plan, tmp_path, seed, wanted)
    assert outcome.differences == [], outcome


def test_the_comparison_finds_what_it_looks_for(uninterrupted: tuple[Plan, dict[str, Any]]) -> None:
    _, wanted = uninterrupted
    log = wanted["log"]
    assert differences(wanted, wanted) == []
    path = next(iter(wanted["state"]))
    assert differences({**wanted, "state": {**wanted["state"], path: ()}}, wanted) == [f"state differs at {path}"]
    assert "rng.plain" in wanted["state"]
    assert "missing [7]" in differences({**wanted, "log": log[:7] + log[8:]}, wanted)[0]
    assert "twice [7]" in differences({**wanted, "log": [*log[:8], *log[7:]]}, wanted)[0]
    changed = [*log[:9], {**log[9], "loss": 0.5}, *log[10:]]
    assert differences({**wanted, "log": changed}, wanted) == ["the step log differs from step 9"]
