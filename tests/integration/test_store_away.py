"""The store goes away under a run that lives here: the verbs still tell of it and stop it, and nothing is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
FOREVER = ("--steps", "1000000", "--step-ms", "5", "--state-mb", "0.1")


def test_status_logs_and_stop_work_without_the_store_and_the_run_goes_on_when_it_is_back(
    machine: Machine, store: Path
) -> None:
    turn = machine.start(TOY, "--save-every", "300ms", arguments=FOREVER)
    turn.until("safe: step")
    store.rename(store.with_name("elsewhere"))

    told = machine.run("status", "toy", "--json")
    assert told.returncode == 0, told.stderr
    plain = json.loads(told.stdout)
    assert (plain["state"], plain["store_answers"]) == ("RUNNING", False)
    assert plain["checkpoints"]["durable"] is not None
    assert "this is what its session on this machine says" in told.stderr
    assert machine.run("logs", "toy").returncode == 0

    stopped = machine.run("stop", "toy", "--now")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "toy: session 1 ended" in stopped.stdout
    assert turn.wait() == 143, turn.text
    assert not store.exists()

    store.with_name("elsewhere").rename(store)
    assert "  safe: step " in machine.run("status", "toy").stdout
    turn = machine.start(TOY, arguments=["--steps", "10", *FOREVER[2:]])
    assert turn.wait() == 0, turn.text
    assert "going on from step" in turn.text
