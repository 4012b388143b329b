"""What `launch` shows: units in its line, and at the end each way from a death to the next first step."""

from __future__ import annotations

import io
import re

import pytest

from supervisor.core import fleet_words as fw
from supervisor.core.fleet_state import Fleet, Life, Policy
from supervisor.core.instant import Instant
from supervisor.core.provisioning import Machine
from supervisor.views import fleet as view
from supervisor.views.bottom import CLEAR
from supervisor.views.wrapping import GREEN, RED, YELLOW, width
from tests.unit.views.shown import Terminal

FIRST = Life(Machine("n-1", "a"), 0.0, safe=20, ended_wall_s=130.0, end="lost", heard_wall_s=100.0)
SECOND = Life(
    Machine("n-2", "b"), 150.0, safe_from=20, safe=90, first_step_wall_s=220.0, ended_wall_s=500.0, end="given back",
    asked_wall_s=135.0, prepared_wall_s=180.0, agent_wall_s=190.0, heard_wall_s=490.0,
)  # fmt: skip


def test_the_report_tells_each_part_of_the_way_from_a_death_to_the_next_first_step():
    table = view.machines(Fleet("n", lives=(FIRST, SECOND), units=80.0, units_first=82.5))
    assert "2 machines, 480 machine seconds, 2.50 units used, 80.00 left" in table[-2]
    assert table[-1].strip() == (
        "from the last status of the machine before to the first step of n-2: 2 min (loss noticed 30 s, next machine asked for 5 s, "
        "machine up 15 s, code and checkpoint sent 30 s, agent started 10 s, first step 30 s)"
    )


def test_a_machine_without_a_step_has_no_way():
    assert view.way(FIRST, Life(Machine("n-2", "b"), 150.0)) == ""


def test_the_line_tells_units_used_the_rate_and_what_is_left():
    fleet = Fleet(
        "n", policy=Policy(paid=True), machine=SECOND.machine, life=Life(SECOND.machine, 0.0), units=88.0, units_first=90.0,
        units_per_hour=2.0, units_wall_s=0.0,
    )  # fmt: skip
    told = view.line(fleet, fw.Polled(1, "running", line="step 7"), Instant(3600.0, 3600.0))
    assert told.endswith("4.00 units used · 2.00/h · 86.00 left (for 43 h 0 min)")


def test_the_line_of_a_run_that_has_done_all_steps_tells_what_is_still_to_be_fetched():
    fleet, told = (
        Fleet("n", machine=SECOND.machine, life=Life(SECOND.machine, 0.0)),
        "step 300/300 (100 %) · 24 steps/s · loss 0.86",
    )
    for event, words in (
        (fw.Polled(1, "running", line=told, waiting=14, trained=True), "all steps are done, 14 files to fetch"),
        (fw.Polled(1, fw.HANDING_OVER, line=told, waiting=14), "the run has ended there, 14 files to fetch"),
    ):
        shown = view.line(fleet, event, Instant(60.0, 60.0))
        assert f"step 300/300 (100 %) · {words} · nothing safe yet" in shown
        assert "steps/s" not in shown


def test_the_goodbye_names_no_command_that_fails(capsys):
    end = fw.End(4, "FAILED_PRECHECKS", "nobody has logged in", "log in")
    view.say_goodbye(end, Fleet("n"), "toy", "", json_lines=False, begun=False)
    assert "status toy" not in capsys.readouterr().out
    view.say_goodbye(end, Fleet("n"), "toy", "", json_lines=False)
    assert "status toy" in capsys.readouterr().out


def test_the_goodbye_of_a_run_whose_loss_is_no_number_proposes_the_last_checkpoint_before(capsys):
    end, nan = (
        fw.End(0, "SUCCEEDED", "the run is finished"),
        {"since": 41, "fine": 40, "names": ["loss"], "last_good": 40},
    )
    view.say_goodbye(end, Fleet("n"), "toy", "", json_lines=False, nan=nan)
    told = capsys.readouterr().out
    assert "export latest" not in told
    assert "loss is no number since step 41" in told
    assert "checkpoints toy export 40 DIR" in told
    view.say_goodbye(
        fw.End(130, "CANCELLED", "stopped"), Fleet("n"), "toy", "", json_lines=False, nan=nan | {"last_good": None}
    )
    told = capsys.readouterr().out
    assert "status toy" in told
    assert "no checkpoint from before that is known" in told


LONG = (
    "the machine did not answer for a while, and what it was asked is asked again: see whether the network is there",
    "see whether `ssh HOST` still works, and start the same command again when it does: nothing of the run is lost by that",
)
PROGRESS = "step 484/3,000 (16 %) · 97 steps/s · 26 s left · loss 0.8899 · accuracy 0.71 · learning_rate 0.0003"


def shown_by_launch(out: io.StringIO) -> str:
    """Return what a launch writes there: its bounds, a warning, an error, a trouble and the progress."""
    fleet = Fleet("n", machine=SECOND.machine, life=Life(SECOND.machine, 0.0), safe=480)
    screen = view.choose("this computer", Policy(), json_lines=False, out=out)
    screen.begins(fleet)
    screen.said(fw.Say("warning", *LONG))
    screen.said(fw.Say("error", *LONG))
    screen.seen(fleet, fw.Polled(1, "running", line=PROGRESS), Instant(3600.0, 3600.0))
    screen.seen(fleet, fw.Polled(1, "running", line=PROGRESS, trouble="it is slow"), Instant(3700.0, 3700.0))
    screen.close()
    return out.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_line_of_a_launch_is_broken_inside_a_word_or_cut(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    text = shown_by_launch(Terminal())
    drawn = [line for line in re.split(rf"\n|{re.escape(CLEAR)}", text) if line]
    assert all(width(line) <= columns for line in drawn), drawn
    assert " ".join(LONG[0].split()) in " ".join(re.sub(r"\x1b\[\w*", "", text).split())
    live = [line for line in drawn if "484" in line]
    assert live
    assert all("step 484/3,000" in line for line in live)


def test_the_lines_of_a_launch_are_coloured_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown_by_launch(Terminal())
    assert all(colour in text for colour in (RED, YELLOW, GREEN))
    assert "\x1b" not in shown_by_launch(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown_by_launch(Terminal())


def test_an_ended_launch_says_its_state_in_its_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    view.say_goodbye(fw.End(1, "FAILED", *LONG), Fleet("n"), "toy", "", json_lines=False)
    assert f"{RED}FAILED" in out.getvalue()
    assert f"{RED}error:" in err.getvalue()
