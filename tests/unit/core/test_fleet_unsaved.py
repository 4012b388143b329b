"""A machine that trains and saves nothing is given up in time, and one that saves, or has no save due, never is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from supervisor.core import errors
from supervisor.core import fleet_words as fw
from supervisor.core.fleet import decide
from supervisor.core.fleet_state import Fleet, Phase, Policy
from supervisor.core.instant import Instant
from supervisor.core.provisioning import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = Machine("run-1", "machine-1", record="r1")
HOUR = 60  # polls, one a minute
EVENT = fw.Polled(0, "running", step=0)


def watched(told: Callable[[int], fw.Polled], hours: int) -> tuple[list[str], Fleet]:
    """Poll a machine once a minute until it is asked to stop; return the warnings with their minute, and the fleet."""
    fleet, said = Fleet("run"), list[str]()
    begin = (fw.Began(Policy(paid=True)), fw.Balanced(10.0, 2.0), fw.Listed(), fw.BroughtUp(OURS), fw.Prepared())
    for event in (*begin, fw.AgentStarted()):
        fleet, _ = decide(fleet, event, Instant(0, 0))
    for minute in range(hours * HOUR):
        at = Instant(minute * 60.0, minute * 60.0)
        fleet, commands = decide(fleet, replace(told(minute), beat=minute, step=(minute * 7) % 100), at)
        said += [f"{minute}: {each.words} {each.hint}" for each in commands if isinstance(each, fw.Say)]
        if fleet.stop:
            break
    return said, fleet


def test_a_run_that_never_saves_is_told_of_and_ended_with_93() -> None:
    said, fleet = watched(lambda _: replace(EVENT, next_save_s=30.0), 3)
    first, last = (next(each for each in said if words in each) for words in ("has saved nothing new", "giving it up"))
    assert int(first.partition(":")[0]) == 31
    assert "in 29 min the launch ends with exit code 93 if that stays so" in first
    assert "`logs`" in first
    assert int(last.partition(":")[0]) == 61
    at = Instant(62 * 60.0, 62 * 60.0)
    for event in (fw.StopPassedOn(1), fw.Woke(), fw.Polled(99, "done", 1, epoch=1), fw.Released("machine-1")):
        fleet, _ = decide(fleet, event, at)
    fleet, commands = decide(fleet, fw.Balanced(8.0, 0.0), at)
    (end,) = commands
    assert isinstance(end, fw.End)
    assert (fleet.phase, end.exit_code, end.state) == (Phase.ENDED, errors.NO_PROGRESS, "FAILED")
    assert "without a new checkpoint" in end.words
    assert "units used" in end.words
    assert "make room on the machine" in end.hint


def test_a_machine_that_saved_once_and_never_again_is_given_up_too() -> None:
    said, fleet = watched(lambda at: replace(EVENT, next_save_s=30.0, saved=7, safe=7 if at > 5 else None), 3)
    assert "step 7 is safe" in said[-1]
    assert fleet.stop_code == errors.NO_PROGRESS


@pytest.mark.parametrize(
    "told",
    [
        lambda at: replace(EVENT, saved=at, next_save_s=5.0),  # it saves, and this computer gets nothing
        lambda at: replace(EVENT, saved=at // 100, next_save_s=60.0 * (100 - at % 100)),  # `--save-every 100min`
        lambda at: replace(EVENT, saved=at // (2 * HOUR)),  # the script alone knows when it saves
        lambda _: replace(EVENT, phase="handing over results", exit_code=0),
        lambda _: replace(EVENT, phase=fw.PREPARING if _ % 9 else "", step=None),
    ],
)
def test_a_machine_that_saves_or_has_no_save_due_is_not_given_up(told: Callable[[int], fw.Polled]) -> None:
    said, fleet = watched(told, 12)
    assert not fleet.stop
    assert not any("saved nothing" in each for each in said)


def test_saves_that_nobody_foretells_and_that_fail_are_waited_for_an_hour_only() -> None:
    words = ("the save at step 1,000 failed: OSError: [Errno 28] No space left on device",)
    _, fleet = watched(lambda at: replace(EVENT, warnings=words if at > HOUR else ()), 3)
    assert fleet.stop_code == errors.NO_PROGRESS


def test_a_run_whose_saves_nobody_foretells_is_given_up_after_six_hours() -> None:
    said, fleet = watched(lambda _: EVENT, 12)
    assert fleet.stop_code == errors.NO_PROGRESS
    assert [int(each.partition(":")[0]) for each in said if "saved nothing" in each] == [180]
    assert int(said[-1].partition(":")[0]) == 360
