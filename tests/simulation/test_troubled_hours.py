"""Hostile hours in which training itself goes wrong too: batches that ruin the weights, at once or some steps later."""

from __future__ import annotations

import pytest

from supervisor.core import events as ev
from supervisor.core import rollback
from supervisor.engine import checkpoints, storing
from tests.simulation import troubles
from tests.simulation.drive_view import DriveView
from tests.simulation.hostile import live_through
from tests.simulation.virtual_supervisor import Launcher
from tests.simulation.world import CALM, Died

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # because it only reckons, which a busy machine does slowly
HOURS = {"in a folder": 90.0, "on a drive": 45.0}
PATIENCE_H = 120.0


@pytest.mark.parametrize("where", HOURS)
def test_no_law_breaks_and_every_run_ends_in_a_sound_training(where):
    for report in live_through(HOURS[where], 1, drive=where == "on a drive", troubled=True):
        assert report.finished
    assert report.counts["rolled back, try 1"] > report.counts["rolled back, try 2"] > 0


def test_where_it_goes_wrong_again_and_again_people_are_asked_and_no_law_breaks(monkeypatch):
    monkeypatch.setattr(troubles, "SPACED", (3, 40))
    monkeypatch.setattr(troubles, "DELAYS", (0, 0, 1, 3, 8))
    for report in live_through(40.0, 5001, drive=False, troubled=True):
        assert report.finished
    assert report.counts["stopped by a trouble"] > 0


def test_calm_runs_go_back_only_because_of_their_batches():
    for report in live_through(8.0, 7, CALM, drive=False, troubled=True):
        assert report.finished
    assert not {"PublishFailed", "SetupFailed", "FENCED", "FAILED"} & set(report.counts)


def test_a_record_that_a_death_broke_off_is_heeded_by_its_name(monkeypatch):
    before, died = DriveView._before, []

    def dies(self, path, *, writes=False):
        before(self, path, writes=writes)
        if writes and rollback.RECORD.fullmatch(path.rpartition("/")[2]) and self.world.chance.random() < 0.5:
            died.append(path)
            raise Died

    monkeypatch.setattr(DriveView, "_before", dies)
    for report in live_through(12.0, 3, drive=True, troubled=True):
        assert report.finished
    assert died


def what_is_withdrawn_is_taken(plant):
    plant(checkpoints.rollback, "withdrawn", lambda _id, _rollbacks: False)


def every_try_is_the_first(plant):
    plant(rollback, "_last", lambda _rolled: None)


def nothing_is_left_out(plant):
    launch = Launcher.launch
    plant(Launcher, "launch", lambda self, attempt, checkpoint, _rolled=(): launch(self, attempt, checkpoint))


def it_goes_on_without_a_record(plant):
    def unwritten(_job, _order, _words, _fence):
        return ev.RollbackWritten()

    plant(storing, "record", unwritten)


@pytest.mark.more
@pytest.mark.parametrize(
    "bug", [what_is_withdrawn_is_taken, every_try_is_the_first, nothing_is_left_out, it_goes_on_without_a_record]
)
def test_the_laws_find(bug, monkeypatch):
    bug(monkeypatch.setattr)
    monkeypatch.setattr(troubles, "SPACED", (3, 60))
    with pytest.raises(AssertionError, match=r"R\d|I\d+"):
        for _ in live_through(PATIENCE_H, 1, drive=False, troubled=True):
            pass
