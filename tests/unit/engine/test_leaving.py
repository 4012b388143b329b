"""A machine is given back only after a finished, safe run, and only if nobody wants to keep it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.errors import UserError
from supervisor.core.ports import Platform, Traits
from supervisor.core.session import Config, Phase, Saves, Session, Trainer
from supervisor.engine import leaving
from supervisor.engine.clock import BootClock
from supervisor.engine.loop import Inbox

FINISHED = Session(Config(), phase=Phase.SUCCEEDED, trainer=Trainer(attempt=1))


class Machine:
    """Notes what is done with it, in order."""

    def __init__(self, refuses: str = "") -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.inbox = Inbox()
        self.refuses = refuses

    def platform(self) -> Platform:
        return Platform(
            "colab", "/runs", 1.0, title="a Colab machine", flush=lambda _within_s: self.do("flush"),
            release=lambda: self.do("release"), again=lambda: self.do("again") or "it is back in the queue",
        )  # fmt: skip

    def do(self, what: str) -> None:
        if what == self.refuses:
            raise UserError(f"no {what}", "do it by hand")
        self.done.append(what)

    def leave(
        self, session: Session = FINISHED, *, evidence="drivefs", mounted=False, safe=True, keep=False, **changed
    ) -> list[str]:
        platform = replace(self.platform(), **changed)
        traits = Traits(evidence=evidence, mounted=mounted, where="/content/runs")
        leaver = leaving.Leaving(
            platform, traits, inbox=self.inbox, clock=BootClock(), say=lambda *words: self.said.extend(words)
        )
        leaver.leave(session, safe=safe, keep=keep)
        return self.done


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "PAUSE_S", 0.01)


def test_a_finished_run_gives_its_machine_back_and_says_so_before():
    machine = Machine()
    assert machine.leave() == ["release"]
    assert machine.said[0].startswith("the run is finished and safe: giving this machine back")
    assert "--keep-machine" in machine.said[1]


def test_what_the_drive_still_holds_is_sent_first():
    assert Machine().leave(mounted=True) == ["flush", "release"]


def test_a_drive_that_cannot_be_sent_keeps_the_machine():
    machine = Machine(refuses="flush")
    assert machine.leave(mounted=True) == []
    assert machine.said[-2:] == ["no flush", "do it by hand"]


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.CANCELLED, Phase.FENCED])
def test_after_any_other_end_a_person_will_want_to_look(phase: Phase):
    assert Machine().leave(FINISHED.with_(phase=phase)) == []


def test_what_is_not_safe_keeps_the_machine():
    assert Machine().leave(safe=False) == []


def test_a_run_on_the_machines_own_disk_keeps_the_machine_because_it_would_go_with_it():
    machine = Machine()
    assert machine.leave(evidence="fsync") == []
    assert "/content/runs" in machine.said[0]
    assert "copy it away" in machine.said[1]


def test_who_only_came_to_look_at_a_finished_run_keeps_the_machine():
    machine = Machine()
    assert machine.leave(FINISHED.with_(trainer=Trainer())) == []
    assert machine.said == []


def test_keep_machine_keeps_it_and_says_what_that_costs():
    machine = Machine()
    assert machine.leave(keep=True) == []
    assert "goes on using up compute units" in machine.said[0]


@pytest.mark.parametrize(("name", "done"), [("SIGINT", []), ("SIGTERM", []), ("SIGHUP", ["release"])])
def test_a_person_may_still_object(name: str, done: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leaving, "PAUSE_S", 30.0 if not done else 0.05)
    machine = Machine()
    machine.inbox(ev.Signalled(name))
    assert machine.leave() == done


def test_a_machine_that_cannot_be_given_back_says_so_in_two_lines():
    machine = Machine(refuses="release")
    machine.leave()
    assert machine.said[-2:] == ["no release", "do it by hand"]


def test_a_hand_over_asks_for_the_next_start_and_gives_nothing_back():
    machine = Machine()
    began_s = BootClock().now().mono_s
    assert machine.leave(FINISHED.with_(phase=Phase.HANDED_OVER, started_s=began_s)) == ["again"]
    assert "it is back in the queue" in machine.said


@pytest.mark.parametrize(("step", "done"), [(500, []), (501, ["again"]), (None, [])])
def test_a_job_that_saved_nothing_new_in_a_long_time_is_not_started_for_ever(step: int | None, done: list[str]):
    machine = Machine()
    durable = None if step is None else CheckpointId(2, step, "aa", 1)
    began_s = BootClock().now().mono_s - leaving.FUTILE_S - 9
    session = FINISHED.with_(phase=Phase.HANDED_OVER, started_s=began_s, resumed_step=500, saves=Saves(durable=durable))
    assert machine.leave(session) == done
    assert done or "is not started again" in machine.said[0]


def test_a_platform_that_can_do_neither_is_left_without_a_word():
    machine = Machine()
    for phase in (Phase.SUCCEEDED, Phase.HANDED_OVER):
        assert machine.leave(FINISHED.with_(phase=phase), release=None, again=None) == []
    assert machine.said == []


@pytest.mark.parametrize(("value", "told"), [({}, False), ("", False), ("0", False), ("1", True)])
def test_a_fleet_gives_its_machines_back_itself(value, told: bool):
    assert leaving.kept({leaving.KEEP: value} if value != {} else {}) is told
