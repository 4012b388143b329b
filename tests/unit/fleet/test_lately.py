"""What `status` tells of a launch on this computer: while it runs, after its controller died, and after its end."""

from __future__ import annotations

import pytest

from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import Policy
from supervisor.core.instant import Instant
from supervisor.core.provisioning import Machine
from supervisor.fleet import lately
from supervisor.fleet.controller import Journal

OURS = Machine("run-1", "machine-1", record="r")
NOW = Instant(3700.0, 3700.0)
NIGHT = (
    fw.Began(Policy(paid=True), "colab"), fw.Balanced(90.0, 0.0), fw.Listed(), fw.BroughtUp(OURS), fw.Prepared(), fw.AgentStarted(),
    fw.Polled(1, "running", step=5, safe=0), fw.Balanced(89.0, 2.0), fw.Listed((OURS,)),
)  # fmt: skip


@pytest.fixture
def environ(tmp_path):
    return {"SUPERVISOR_RUN_LOCAL": str(tmp_path)}


def journal(environ, *values):
    made = Journal(lately.folder(environ, "toy", "runs"), "run")
    for value in values:
        made.record(Instant(100.0, 100.0), value)
    return made


def test_a_run_that_was_never_launched_here_has_no_word(environ):
    assert lately.look(environ, "toy", "runs") is None


def test_a_launch_that_runs_tells_its_machine_and_what_it_costs(environ):
    open_ = journal(environ, *NIGHT)
    seen = lately.look(environ, "toy", "runs")
    assert seen.line(NOW) == "launch: on run-1 for 1 h 0 min · 3.00 units used · 2.00/h · 87.00 left (for 43 h 30 min)"
    plain = seen.plain(NOW)
    assert (plain["running"], plain["machine"], plain["units_used"], plain["units_left"]) == (
        True,
        "machine-1",
        3.0,
        87.0,
    )
    open_.close()
    assert "its controller does not run; run-1" in lately.look(environ, "toy", "runs").line(NOW)


@pytest.mark.parametrize("again", [False, True])
def test_after_its_end_a_launch_says_how_it_ended_until_the_next_one(environ, again):
    ends = (fw.Polled(9, "done", 130, 9, 9), fw.Released("machine-1"), fw.End(130, "CANCELLED", "stopped by Ctrl-C"))
    journal(environ, *NIGHT, *ends, *([fw.Began()] if again else [])).close()
    seen = lately.look(environ, "toy", "runs")
    if again:
        assert seen.end is None
    else:
        assert seen.line(NOW).startswith("launch ended: CANCELLED: stopped by Ctrl-C · exit code 130")
        assert seen.plain(NOW)["state"] == "CANCELLED"


def test_a_launch_that_left_has_not_ended(environ):
    journal(environ, *NIGHT, fw.End(130, "LEFT", "machine-1 goes on by itself")).close()
    assert lately.look(environ, "toy", "runs").end is None


def test_a_damaged_journal_takes_no_status_away(environ):
    journal(environ, *NIGHT).close()
    file = lately.folder(environ, "toy", "runs") / "journal.jsonl"
    file.write_bytes(b"\0\0\0\n")
    assert lately.look(environ, "toy", "runs") is None
