"""What `status` tells of a launch on this computer: while it runs, after its controller died, and after its end."""

from __future__ import annotations

import pytest

from supervisor.core.clock import Instant
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.provisioning import Machine
from supervisor.core.fleet.state import FleetPolicy
from supervisor.fleet import last_launch
from supervisor.fleet.controller import FleetJournal

OURS = Machine("run-1", "machine-1", record="r")
NOW = Instant(3700.0, 3700.0)
NIGHT = (
    fw.ControllerStarted(FleetPolicy(paid=True), "colab"), fw.BalanceRead(90.0, 0.0), fw.MachinesListed(), fw.MachineCreated(OURS), fw.MachinePrepared(), fw.AgentStarted(),
    fw.MachinePolled(1, "running", step=5, durable_step=0), fw.BalanceRead(89.0, 2.0), fw.MachinesListed((OURS,)),
)  # fmt: skip


@pytest.fixture
def environ(tmp_path):
    return {"SUPERVISOR_RUN_LOCAL": str(tmp_path)}


def journal(environ, *values):
    made = FleetJournal(last_launch.folder(environ, "toy", "runs"), "run")
    for value in values:
        made.record(Instant(100.0, 100.0), value)
    return made


def test_a_run_that_was_never_launched_here_has_no_word(environ):
    assert last_launch.read_last(environ, "toy", "runs") is None


def test_a_launch_that_runs_tells_its_machine_and_what_it_costs(environ):
    open_ = journal(environ, *NIGHT)
    seen = last_launch.read_last(environ, "toy", "runs")
    assert seen.line(NOW) == "launch: on run-1 for 1 h 0 min · 3.00 units used · 2.00/h · 87.00 left (for 43 h 30 min)"
    plain = seen.plain(NOW)
    assert (plain["running"], plain["machine"], plain["units_used"], plain["units_left"]) == (
        True,
        "machine-1",
        3.0,
        87.0,
    )
    open_.close()
    assert "its controller does not run; run-1" in last_launch.read_last(environ, "toy", "runs").line(NOW)


@pytest.mark.parametrize("again", [False, True])
def test_after_its_end_a_launch_says_how_it_ended_until_the_next_one(environ, again):
    ends = (
        fw.MachinePolled(9, "done", 130, 9, 9),
        fw.MachineReleased("machine-1"),
        fw.EndController(130, "CANCELLED", "stopped by Ctrl-C"),
    )
    journal(environ, *NIGHT, *ends, *([fw.ControllerStarted()] if again else [])).close()
    seen = last_launch.read_last(environ, "toy", "runs")
    if again:
        assert seen.end is None
    else:
        assert seen.line(NOW).startswith("launch ended: CANCELLED: stopped by Ctrl-C · exit code 130")
        assert seen.plain(NOW)["state"] == "CANCELLED"


def test_a_launch_that_left_has_not_ended(environ):
    journal(environ, *NIGHT, fw.EndController(130, "LEFT", "machine-1 continues by itself")).close()
    assert last_launch.read_last(environ, "toy", "runs").end is None


def test_a_damaged_journal_takes_no_status_away(environ):
    journal(environ, *NIGHT).close()
    file = last_launch.folder(environ, "toy", "runs") / "journal.jsonl"
    file.write_bytes(b"\0\0\0\n")
    assert last_launch.read_last(environ, "toy", "runs") is None
