"""Machines that start the same run at the same time: one goes on, the others end with 75, and the run is what it would be."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, final_state, until
from supervisor.core.claim import rank_of
from tests.machines.cloud import Cloud, Watched
from tests.machines.hasty import GATES
from tests.machines.jobs import JOB, LONG, OFTEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.machines.machine import NamespacedMachine

pytestmark = pytest.mark.slow
FENCED = 75


@pytest.fixture
def all_at_once(
    tmp_path: Path, cloud: Cloud, uninterrupted: dict, long_uninterrupted: dict
) -> Callable[..., None]:  # fmt: skip
    """Let machines do what ``gates`` name at the same time; one must go on to the end, and the others must give way."""
    folder = tmp_path / "gates"
    folder.mkdir()

    def run(machines: list[NamespacedMachine], *gates: str) -> None:
        environ = {GATES: str(folder)}
        job, wanted = (LONG, long_uninterrupted) if machines[0].sort.stale == "10s" else (JOB, uninterrupted)
        with Watched(cloud):
            turns = [machine.start(TOY, *OFTEN, arguments=job, environ=environ) for machine in machines]
            for gate in gates:
                until(lambda gate=gate: len(list(folder.glob(f"{gate}-*"))) == len(machines))
                (folder / gate).touch()
            codes = Counter(turn.wait() for turn in turns)
            for machine in machines:
                machine.all_sent()
        told = "\n".join(turn.text for turn in turns)
        assert codes == {0: 1, FENCED: len(turns) - 1}, told
        ranks = sorted(rank_of(path.name) for path in (cloud.runs / "toy").glob("e*"))[-len(turns) :]
        assert len({rank.epoch for rank in ranks}) == 1, "they did not claim at the same time, so this proves nothing"
        done = [path.parent.name for path in (cloud.runs / "toy").glob("e*/end-succeeded.json")]
        assert done == [str(ranks[-1])], told
        gave_way = rf"another machine has taken over this run \(({'|'.join(map(str, ranks))})\)"
        for turn in turns:
            assert turn.process.returncode == 0 or re.search(gave_way, turn.text), turn.text
        assert final_state(cloud.runs, "toy") == wanted

    return run


@pytest.mark.parametrize("stale", ["0s", "2s", "10s"])
def test_two_on_a_new_run(
    new_machine: Callable[..., NamespacedMachine], all_at_once: Callable[..., None], stale: str
) -> None:
    all_at_once([new_machine(stale=stale) for _ in range(2)], "record", "claim")


@pytest.mark.parametrize("stale", ["0s", "2s", "10s"])
def test_two_on_a_run_that_was_begun(
    new_machine: Callable[..., NamespacedMachine],
    all_at_once: Callable[..., None],
    begun: Callable[[tuple[str, ...]], None],
    stale: str,
) -> None:
    begun(LONG if stale == "10s" else JOB)
    all_at_once([new_machine(stale=stale) for _ in range(2)], "claim")


def test_three_on_a_new_run(new_machine: Callable[..., NamespacedMachine], all_at_once: Callable[..., None]) -> None:
    all_at_once([new_machine(stale="2s") for _ in range(3)], "record", "claim")
