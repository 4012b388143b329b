"""Whatever dies, and whenever: the run ends as if nothing had been, and people are told what it was."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.reclaims import Plan, Trial, reference
from tests.machines.groups import Group

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
JOB = ("--steps", "800", "--step-ms", "10", "--state-mb", "0.3")  # so long that it lives through all of the events
PLAN = Plan(JOB, span_s=1.0)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return reference(tmp_path_factory.mktemp("reference"), JOB)


@pytest.fixture
def limited() -> None:
    group = Group("tried", memory_bytes=400_000_000)
    group.end()
    if not group.limited:
        pytest.skip("no control group with a memory limit can be made here")


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    "events",
    [
        ("out of memory", "reclaim", "trainer", "supervisor"),
        ("reclaim", "both", "out of memory", "reclaim"),
        ("trainer", "reclaim", "supervisor", "both"),
    ],
)
def test_no_death_does_any_harm(tmp_path: Path, wanted: dict[str, Any], events: tuple[str, ...]) -> None:
    trial = Trial(tmp_path, random.Random(str(events)), events, PLAN).run(wanted)
    assert not trial.wrong, trial
    assert len(trial.done) >= len(events) - 1, trial
