"""A machine that stands still while another takes the run over, and then goes on: it hurts nothing, even writing last."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, final_state, until
from tests.machines.cloud import Cloud, Watched
from tests.machines.jobs import JOB, OFTEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machines.machine import NamespacedMachine, NamespacedTurn

pytestmark = pytest.mark.slow
FENCED = 75
SLOW = "300k"  # bytes per second: a checkpoint of the job is on its way for about a second


def paused_while_uploading(machine: NamespacedMachine, cloud: Cloud) -> NamespacedTurn:
    """A second checkpoint is half-way up when the machine stops."""
    turn = machine.start(TOY, *OFTEN, "--keep-last", "2", arguments=JOB)
    turn.until("safe in")
    while True:
        turn.until(lambda: cloud.half_uploaded(1))
        machine.pause()
        if cloud.half_uploaded(1):
            assert turn.running, turn.text
            return turn
        machine.go_on()  # because the pause came too late, as on a busy machine it may


def test_a_zombie_that_writes_last_hurts_nothing(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    zombie = new_machine(bwlimit=SLOW)
    with Watched(cloud) as watched:
        turn = paused_while_uploading(zombie, cloud)
        successor = new_machine()
        second = successor.start(TOY, *OFTEN, "--takeover", arguments=JOB)
        assert second.wait() == 0, second.text
        successor.all_sent()
        before, chosen = cloud.files(), cloud.choice()
        zombie.go_on()
        assert turn.wait() == FENCED, turn.text
        zombie.all_sent()
    after = cloud.files()
    own = f"{cloud.session(1).name}/"
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed, "the zombie wrote nothing after it woke, so this proves nothing"
    assert all(name.startswith(own) for name in changed), changed
    assert cloud.choice() == chosen
    assert watched.choices[-1] == (chosen.epoch, chosen.step)
    assert final_state(cloud.runs, "toy") == uninterrupted
    assert "another machine has taken over" in turn.text


def test_a_zombie_that_wakes_beside_its_successor_stops(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    zombie = new_machine(bwlimit=SLOW, stale="2s")
    with Watched(cloud):
        turn = paused_while_uploading(zombie, cloud)
        successor = new_machine(stale="2s")
        second = successor.start(TOY, *OFTEN, "--takeover", arguments=JOB)
        second.until("going on from step")
        zombie.go_on()
        assert turn.wait() == FENCED, turn.text
        assert second.wait() == 0, second.text
        zombie.all_sent()
        successor.all_sent()
    assert not list(cloud.session(1).glob("end-[!f]*")), "a fenced session ends in no other way"
    assert final_state(cloud.runs, "toy") == uninterrupted
    seen = [cloud.choice(machine.outside(machine.store)) for machine in (zombie, successor)]
    assert seen == [cloud.choice()] * 2  # (I5)


def test_a_woken_trainer_stages_on_and_nothing_of_it_is_published(
    new_machine: Callable[..., NamespacedMachine], cloud: Cloud, uninterrupted: dict
) -> None:
    """Only the supervisor stands still; its trainer and its drive go on, so it wakes with much to publish."""
    machine = new_machine()
    turn = machine.start(TOY, *OFTEN, arguments=JOB)
    turn.until("safe in")
    with Watched(cloud):
        turn.signal(signal.SIGSTOP)
        published = set(cloud.session(1).rglob("manifest-*"))
        successor = new_machine()
        second = successor.start(TOY, *OFTEN, "--takeover", arguments=JOB)
        second.until("safe in")
        until(lambda: list(turn.local.rglob("staging/step-*")))
        turn.signal(signal.SIGCONT)
        assert turn.wait() == FENCED, turn.text
        assert second.wait() == 0, second.text
        machine.all_sent()
        successor.all_sent()
    assert set(cloud.session(1).rglob("manifest-*")) <= published
    assert final_state(cloud.runs, "toy") == uninterrupted
