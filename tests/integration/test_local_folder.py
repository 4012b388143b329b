"""A local folder that is emptied while the run lives, as cleaners of temporary folders do: saves go on, and the next life too."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY

if TYPE_CHECKING:
    from benchmarks.machines import Machine, Turn

pytestmark = pytest.mark.slow
LONG = ("--steps", "100000")


def safe_step(machine: Machine) -> int:
    """Return the step that ``status`` calls safe, -1 for none."""
    told = json.loads(machine.run("status", "--json").stdout)
    return -1 if told["checkpoints"]["durable"] is None else int(told["checkpoints"]["durable"])


def emptied(machine: Machine, first: Turn) -> int:
    """Remove all of the local disk once a step is safe; return that step."""
    first.until("safe: step")
    step = safe_step(machine)
    shutil.rmtree(machine.local / "training-supervisor")
    return step


def test_saves_go_on_and_status_tells_the_truth_meanwhile(machine):
    turn = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    step = emptied(machine, turn)
    turn.until("was emptied and is made again")
    assert safe_step(machine) >= step
    turn.until(lambda: safe_step(machine) > step + 100)
    told = json.loads(machine.run("status", "--json").stdout)
    assert told["state"] == "RUNNING"
    assert "was emptied and is made again" in turn.text
    assert "could not be saved" not in turn.text
    turn.signal(signal.SIGTERM)
    assert turn.wait() == 143, turn.text


@pytest.mark.parametrize("victim", ["trainer", "both"])
def test_what_lives_next_finds_its_channel_and_goes_on_from_the_newest_that_is_safe(machine, victim):
    turn = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    step = emptied(machine, turn)
    turn.until("was emptied and is made again")
    turn.kill(victim)
    if victim == "both":
        turn.wait()
        turn = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    turn.until(lambda: safe_step(machine) > step + 200)
    turn.signal(signal.SIGTERM)
    assert turn.wait() == 143, turn.text
    steps = [json.loads(line)["step"] for line in machine.run("logs", "--steps", "--json").stdout.splitlines()]
    assert steps == list(range(len(steps)))
