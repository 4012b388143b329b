"""The fleet's controller decides: nothing that happens breaks it, no machine is forgotten, none of somebody else's is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isinf
from random import Random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import errors
from supervisor.core import fleet_words as fw
from supervisor.core.fleet import decide, next_wakeup
from supervisor.core.fleet_state import Fleet, Phase, Policy
from supervisor.core.instant import Instant
from supervisor.core.provisioning import KINDS, Machine

CALLS = get_args(fw.Call)
POLICY = Policy(listings=3)
OURS = Machine("run-1", "machine-1", record="r1")
THEIRS = Machine("", "theirs")

MACHINES = st.sampled_from([OURS, Machine("run-2", "machine-2", record="r2"), THEIRS, Machine("", "machine-1")])
STEPS = st.one_of(st.none(), st.integers(0, 500))
CODES = st.sampled_from([None, 0, 1, 3, 4, 42, 75, 93, 130, 143])
UNITS = st.one_of(st.none(), st.floats(0, 100))
EVENTS = st.one_of(
    st.builds(
        fw.Began,
        st.builds(Policy, machines_max=st.integers(1, 3), a_day=st.integers(1, 3), paid=st.booleans(), units_max=UNITS),
    ),
    st.just(fw.Woke()),
    st.builds(fw.Told, st.sampled_from(["stop", "leave"])),
    st.builds(fw.Balanced, UNITS, UNITS),
    st.builds(fw.Listed, st.lists(MACHINES, max_size=3).map(tuple)),
    st.builds(fw.BroughtUp, MACHINES),
    st.builds(fw.Adopted, MACHINES),
    st.builds(fw.Prepared, STEPS),
    st.just(fw.AgentStarted()),
    st.builds(
        fw.Polled, st.integers(-1, 9), st.sampled_from(["", "running", "done"]), CODES, STEPS, STEPS, st.booleans()
    ),
    st.just(fw.Restarted()),
    st.just(fw.StopPassedOn()),
    st.builds(fw.Released, st.sampled_from(["machine-1", "theirs"])),
    st.builds(fw.Failed, st.sampled_from([kind.__name__ for kind in CALLS]), st.sampled_from([*KINDS, "home", "nothing", "hopeless"]), st.just("words")),
)  # fmt: skip


@given(st.lists(st.tuples(EVENTS, st.floats(0, 2000)), max_size=30))
@settings(max_examples=200)
def test_any_event_in_any_fleet_is_decided(happened: list[tuple[fw.Event, float]]) -> None:
    fleet, now_s = Fleet("run"), 0.0
    for event, later_s in happened:
        now_s += later_s
        now = Instant(now_s, now_s)
        ended = fleet.phase is Phase.ENDED
        fleet, commands = decide(fleet, event, now)
        assert sum(isinstance(each, CALLS) for each in commands) <= 1
        assert not (ended and commands and not isinstance(event, fw.Began)), "who has ended is deaf"
        assert next_wakeup(fleet, now) > now_s
        going_on = fleet.doing or fleet.phase is Phase.ENDED or not isinf(next_wakeup(fleet, now))
        assert going_on or any(isinstance(each, fw.End) for each in commands) or not isinstance(event, fw.Woke)


@dataclass
class Hour:
    """A world that answers calls, badly: machines die, answers are lost, listings miss a machine for a while."""

    chance: Random
    trouble: float
    machines: dict[str, Machine] = field(default_factory=lambda: {"theirs": THEIRS})
    made: list[str] = field(default_factory=list)
    hidden: int = 0
    steps: int = 0
    beat: int = 0

    def answer(self, call: fw.Call) -> fw.Event:
        name = type(call).__name__
        if self.chance.random() < self.trouble:
            return fw.Failed(name, self.chance.choice(["unreachable", "failed", "home"] if name != "BringUp" else ["refused", "quota"]), "")  # fmt: skip
        done = self.do(call)
        if self.chance.random() < self.trouble and not isinstance(done, fw.Listed):
            return fw.Failed(name, "unreachable", "the answer was lost")
        return done

    def do(self, call: fw.Call) -> fw.Event:  # noqa: C901, PLR0911, because it is a table
        machine = getattr(call, "machine", None)
        if machine is not None and self.chance.random() < self.trouble / 4:
            self.machines.pop(machine.endpoint, None)
        there = machine is None or machine.endpoint in self.machines
        match call:
            case fw.ListMachines():
                return fw.Listed(self.listed())
            case fw.BringUp():
                return fw.BroughtUp(self.brought_up(call.name))
            case fw.CheckBalance():
                return fw.Balanced(10.0)
            case fw.Release():
                assert machine.endpoint in self.made, "only what is ours is given back"
                self.machines.pop(machine.endpoint, None)
                return fw.Released(machine.endpoint)
            case _ if not there:
                return fw.Failed(type(call).__name__, self.chance.choice(["gone", "unreachable"]), "")
            case fw.Adopt():
                return fw.Adopted(machine)
            case fw.Prepare():
                return fw.Prepared(None, 1)
            case fw.StartAgent():
                return fw.AgentStarted()
            case fw.Restart():
                return fw.Restarted()
            case fw.PassOnStop():
                return fw.StopPassedOn()
        self.steps += self.chance.randrange(30)
        self.beat += 1
        done = self.steps > 400
        return fw.Polled(self.beat, "done" if done else "running", 0 if done else None, self.steps, self.steps)

    def listed(self) -> tuple[Machine, ...]:
        """What a listing shows: it misses ours now and then, but not so often in a row that it counts as gone."""
        missed = self.hidden < POLICY.listings - 1 and self.chance.random() < self.trouble
        self.hidden = self.hidden + 1 if missed else 0
        return tuple(each for each in self.machines.values() if not (missed and each.name))

    def brought_up(self, name: str) -> Machine:
        mine = [each for each in self.machines.values() if each.name]
        assert not [each for each in mine if each.name != name], "one machine at a time"
        if not mine:
            self.made.append(f"machine-{len(self.made) + 1}")
            mine = [Machine(name, self.made[-1], record="r")]
            self.machines[self.made[-1]] = mine[0]
        return mine[0]


@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.05, 0.2, 0.4]), st.booleans())
@settings(max_examples=100)
def test_whatever_the_world_does_every_machine_is_given_back(seed: int, trouble: float, deaths: bool) -> None:
    """With a controller that dies at any point and goes on from what it wrote down."""
    chance = Random(seed)
    world, now_s = Hour(chance, trouble), 0.0
    policy = replace(POLICY, fruitless_max=1000, machines_max=1000, a_day=1000, refusals_max=1000)
    journal: list[tuple[fw.Event, Instant]] = []
    fleet, event, code = Fleet("run"), fw.Began(policy), None
    for _ in range(3000):
        now = Instant(now_s, now_s)
        if not isinstance(event, fw.Woke):
            journal.append((event, now))
        fleet, commands = decide(fleet, event, now)
        if code is None and fleet.phase is Phase.ENDED:
            code = fleet.exit_code
            break
        call = next((each for each in commands if isinstance(each, CALLS)), None)
        if deaths and chance.random() < 0.05:
            if call is not None and chance.random() < 0.5:
                world.do(call)  # it was done, and nobody wrote down what came of it
            fleet, event = folded(journal), fw.Began(policy)
        elif call is not None:
            event = world.answer(call)
        else:
            event, now_s = fw.Woke(), next_wakeup(fleet, now)
        now_s += chance.random()
    assert code == 0
    assert list(world.machines) == ["theirs"]
    assert {life.machine.endpoint for life in fleet.lives} == set(world.made)


def folded(journal: list[tuple[fw.Event, Instant]]) -> Fleet:
    fleet = Fleet("run")
    for event, at in journal:
        fleet, _ = decide(fleet, event, at)
    return fleet


@given(st.integers(0, 10**9), st.data())
@settings(max_examples=60)
def test_a_journal_with_a_damaged_line_is_still_folded(seed: int, data: st.DataObject) -> None:
    journal = [(event, Instant(at, at)) for at, event in enumerate(a_night(seed))]
    lost = data.draw(st.integers(0, len(journal) - 1))
    fleet, commands = decide(folded(journal[:lost] + journal[lost + 1 :]), fw.Began(POLICY), Instant(1e6, 1e6))
    assert commands
    assert fleet.doing


def a_night(seed: int) -> list[fw.Event]:
    world, fleet, event, at_s = Hour(Random(seed), 0.2), Fleet("run"), fw.Began(POLICY), 0.0
    events: list[fw.Event] = []
    while len(events) < 60 and fleet.phase is not Phase.ENDED:
        events.append(event)
        fleet, commands = decide(fleet, event, Instant(at_s, at_s))
        call = next((each for each in commands if isinstance(each, CALLS)), None)
        at_s = at_s + 1 if call else next_wakeup(fleet, Instant(at_s, at_s))
        event = world.answer(call) if call else fw.Woke()
    return events


def serving(policy: Policy = POLICY, safe: int | None = 0) -> Fleet:
    """A fleet whose first machine serves, at 0 s, and has just told its beat."""
    fleet = Fleet("run")
    for event in (
        fw.Began(policy), fw.Balanced(10.0, 1.0) if policy.paid else fw.Woke(), fw.Listed(), fw.BroughtUp(OURS), fw.Prepared(),
        fw.AgentStarted(), fw.Polled(1, "running", step=5, safe=safe),
    ):  # fmt: skip
        fleet, _ = decide(fleet, event, Instant(0, 0))
    assert fleet.phase is Phase.SERVING
    return fleet


def after(fleet: Fleet, *happened: tuple[fw.Event, float]) -> tuple[Fleet, tuple[fw.Command, ...]]:
    commands: tuple[fw.Command, ...] = ()
    for event, at_s in happened:
        fleet, commands = decide(fleet, event, Instant(at_s, at_s))
    return fleet, commands


def calls(commands: tuple[fw.Command, ...]) -> list[str]:
    return [type(each).__name__ for each in commands if isinstance(each, CALLS)]


UNREACHABLE = fw.Failed("Poll", "unreachable", "no route")
LISTED = fw.Listed((OURS, THEIRS))


def test_a_computer_that_slept_asks_the_machine_before_it_restarts_anything() -> None:
    fleet, commands = after(serving(), (fw.Woke(), 3600.0))
    assert calls(commands) == ["Poll"]
    fleet, commands = after(fleet, (fw.Polled(900, "running", step=900, safe=800), 3601.0))
    assert fleet.machine == OURS
    assert calls(commands) == []


def test_an_hour_without_a_network_at_home_changes_nothing_for_the_machine() -> None:
    fleet, now_s = serving(), 5.0
    for _ in range(60):
        fleet, commands = after(fleet, (fw.Woke(), now_s))
        while calls(commands):
            (call,) = calls(commands)
            assert call in {"Poll", "ListMachines"}
            fleet, commands = after(fleet, (fw.Failed(call, "unreachable", "no route"), now_s + 1))
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    fleet, commands = after(fleet, (fw.Woke(), now_s))
    while calls(commands) == ["ListMachines"]:
        fleet, commands = after(fleet, (LISTED, now_s))
    assert calls(commands) == ["Poll"], "the network is back, and the machine was never in doubt"


def test_a_full_disk_at_home_takes_no_machine_away() -> None:
    fleet, now_s, seen = serving(), 5.0, set()
    for _ in range(60):
        fleet, commands = after(fleet, (fw.Woke(), now_s))
        while calls(commands) == ["ListMachines"]:
            fleet, commands = after(fleet, (LISTED, now_s))
        seen.update(calls(commands))
        fleet, _ = after(fleet, (fw.Failed("Poll", "home", "no space left"), now_s + 1))
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    assert seen == {"Poll"}


def test_a_machine_whose_beat_stands_still_is_restarted_twice_and_then_given_back() -> None:
    fleet, now_s, seen = serving(), 1.0, []
    answers = {
        "Poll": fw.Polled(1, "running", step=5, safe=0), "ListMachines": LISTED, "Restart": fw.Restarted(), "StartAgent": fw.AgentStarted(),
    }  # fmt: skip
    commands: tuple[fw.Command, ...] = ()
    while "Release" not in seen:
        made = calls(commands)
        seen += made
        event = fw.Woke() if not made else answers.get(made[0], fw.Woke())
        fleet, commands = after(fleet, (event, now_s))
        now_s = now_s + 1 if calls(commands) else max(now_s + 1, next_wakeup(fleet, Instant(now_s, 0)))
    assert seen.count("Restart") == 2
    assert seen.count("StartAgent") == 2
    assert now_s > 2 * POLICY.silence_s


def test_a_machine_that_nobody_can_reach_while_it_is_listed_is_restarted() -> None:
    fleet, now_s, seen = serving(), 1.0, []
    commands: tuple[fw.Command, ...] = ()
    while "Restart" not in seen:
        made = calls(commands)
        seen += made
        event = fw.Woke() if not made else LISTED if made == ["ListMachines"] else UNREACHABLE
        fleet, commands = after(fleet, (event, now_s))
        now_s = now_s + 1 if calls(commands) else max(now_s + 1, next_wakeup(fleet, Instant(now_s, 0)))
    assert seen.count("Poll") >= 4


def test_a_machine_counts_as_lost_after_enough_listings_apart_from_each_other() -> None:
    fleet, commands = after(serving(), (fw.Woke(), 1.0), (fw.Failed("Poll", "gone", "no such machine"), 2.0))
    assert calls(commands) == ["ListMachines"]
    for absent in (1, 2):
        fleet, commands = after(fleet, (fw.Listed((THEIRS,)), 2.0 + absent))
        assert fleet.machine == OURS
        assert next_wakeup(fleet, Instant(2.0 + absent, 0)) >= 2.0 + absent + POLICY.listings_apart_s
        fleet, commands = after(fleet, (fw.Woke(), 10.0 * absent))
        assert calls(commands) == ["ListMachines"]
    fleet, _ = after(fleet, (fw.Listed((THEIRS,)), 30.0))
    assert fleet.machine is None
    assert [life.end for life in fleet.lives] == ["lost"]
    fleet, commands = after(fleet, (fw.Woke(), 40.0), (fw.Listed((THEIRS,)), 41.0))
    assert commands[-1:] == (fw.BringUp("run-2", POLICY.wanted),)


def test_three_machines_in_a_row_that_bring_nothing_home_are_enough() -> None:
    fleet, now_s = serving(safe=None), 0.0
    for number in (1, 2, 3):
        machine = Machine(f"run-{number}", f"machine-{number}", record="r")
        if number > 1:
            now_s += 1000
            fleet, commands = after(fleet, (fw.Woke(), now_s), (fw.Listed(), now_s))
            assert calls(commands) == ["BringUp"]
            fleet, _ = after(fleet, (fw.BroughtUp(machine), now_s), (fw.Prepared(), now_s), (fw.AgentStarted(), now_s))
        for _ in range(3):
            fleet, commands = after(fleet, (fw.Listed(), now_s))
    (end,) = [each for each in commands if isinstance(each, fw.End)]
    assert (end.exit_code, fleet.phase) == (errors.NO_PROGRESS, Phase.ENDED)


@pytest.mark.parametrize(
    ("code", "state", "last"),
    [
        (0, "SUCCEEDED", 0), (1, "FAILED", 1), (3, "FAILED", 3), (4, "FAILED", 4), (75, "FAILED", 75), (93, "FAILED", 93),
        (130, "CANCELLED", 130), (143, "CANCELLED", 143),
    ],
)  # fmt: skip
def test_the_runs_own_end_is_the_controllers_after_the_machine_is_given_back(code: int, state: str, last: int) -> None:
    fleet, commands = after(serving(), (fw.Woke(), 1.0), (fw.Polled(2, "done", code, 9, 9), 2.0))
    assert commands[-1] == fw.Release(OURS)
    fleet, commands = after(fleet, (fw.Released(OURS.endpoint), 3.0))
    assert isinstance(commands[-1], fw.End)
    assert (commands[-1].state, commands[-1].exit_code) == (state, last)
    assert after(fleet, (fw.Woke(), 9.0), (LISTED, 9.0))[1] == ()


def test_a_machine_that_handed_over_is_followed_by_the_next() -> None:
    fleet, _ = after(
        serving(), (fw.Woke(), 1.0), (fw.Polled(2, "done", 42, 9, 9), 2.0), (fw.Released("machine-1"), 3.0)
    )
    fleet, commands = after(fleet, (fw.Woke(), 60.0), (fw.Listed(), 61.0))
    assert calls(commands) == ["BringUp"]


def test_results_that_are_still_to_be_fetched_keep_the_machine() -> None:
    _, commands = after(
        serving(), (fw.Woke(), 1.0), (fw.Polled(2, "handing over results", 0, 9, 9, more=True), 2.0), (fw.Woke(), 2.1)
    )
    assert calls(commands) == ["Poll"]


@pytest.mark.parametrize(
    ("policy", "event", "code"),
    [
        (replace(POLICY, paid=True), fw.Balanced(None), errors.FAILED_PRECHECKS),
        (replace(POLICY, paid=True), fw.Balanced(0.0), errors.FAILED_PRECHECKS),
        (replace(POLICY, until_wall_s=-1.0), None, errors.HANDED_OVER),
    ],
)
def test_no_machine_is_brought_up_against_a_limit(policy: Policy, event: fw.Event | None, code: int) -> None:
    happened = [(fw.Began(policy), 0.0), *([(event, 0.0)] if event else []), (fw.Listed(), 0.0)]
    fleet, commands = after(Fleet("run"), *happened)
    (end,) = commands
    assert isinstance(end, fw.End)
    assert (end.exit_code, fleet.phase) == (code, Phase.ENDED)


@pytest.mark.parametrize(
    ("policy", "at_s"),
    [(replace(POLICY, until_wall_s=100.0), 101.0), (replace(POLICY, paid=True, units_max=2.0), 7300.0)],
)
def test_at_a_limit_the_run_saves_is_fetched_and_the_machine_given_back(policy: Policy, at_s: float) -> None:
    fleet, commands = after(serving(policy), (fw.Woke(), at_s), (fw.Polled(3, "running", step=50, safe=9), at_s))
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(
        fleet, (fw.StopPassedOn(), at_s), (fw.Woke(), at_s), (fw.Polled(4, "done", 130, 51, 51), at_s)
    )
    assert commands[-1] == fw.Release(OURS)
    fleet, commands = after(fleet, (fw.Released(OURS.endpoint), at_s))
    if policy.paid:
        fleet, commands = after(fleet, (fw.Balanced(9.0, 1.0), at_s))
    assert (commands[-1].exit_code, commands[-1].state) == (errors.HANDED_OVER, "PENDING")


def test_refusals_are_waited_out_ever_longer_and_not_for_ever() -> None:
    policy = replace(POLICY, refusals_max=8)
    fleet, now_s, pauses = Fleet("run"), 0.0, []
    fleet, commands = after(fleet, (fw.Began(policy), now_s), (fw.Listed(), now_s))
    while calls(commands) == ["BringUp"]:
        fleet, commands = after(fleet, (fw.Failed("BringUp", "refused", "no T4 now"), now_s))
        if fleet.phase is Phase.ENDED:
            break
        pauses.append(next_wakeup(fleet, Instant(now_s, 0)) - now_s)
        now_s += pauses[-1]
        fleet, commands = after(fleet, (fw.Woke(), now_s), (fw.Listed(), now_s))
    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0]
    assert commands[-1].state == "FAILED_NO_RESOURCE"


@pytest.mark.parametrize("kind", ["login", "denied"])
def test_what_only_a_person_can_mend_ends_at_once(kind: str) -> None:
    _, commands = after(
        Fleet("run"), (fw.Began(POLICY), 0.0), (fw.Listed(), 0.0), (fw.Failed("BringUp", kind, "words", "hint"), 1.0)
    )
    (end,) = commands
    assert isinstance(end, fw.End)
    assert (end.exit_code, end.words, end.hint) == (errors.FAILED_PRECHECKS, "words", "hint")


def test_a_bring_up_of_unknown_outcome_is_asked_for_again_by_the_same_name() -> None:
    fleet, _ = after(
        Fleet("run"),
        (fw.Began(POLICY), 0.0),
        (fw.Listed((THEIRS,)), 0.0),
        (fw.Failed("BringUp", "unreachable", ""), 1.0),
    )
    fleet, commands = after(fleet, (fw.Woke(), 99.0), (fw.Listed((THEIRS, Machine("", "appeared"))), 99.0))
    assert commands[-1] == fw.BringUp("run-1", POLICY.wanted)
    (said,) = [each for each in commands if isinstance(each, fw.Say)]
    assert "appeared" in said.words
    assert "not touched" in said.hint


def test_a_controller_that_died_while_it_brought_one_up_takes_it_up_by_its_name() -> None:
    fleet, _ = after(Fleet("run"), (fw.Began(POLICY), 0.0), (fw.Listed((THEIRS,)), 0.0))
    fleet, commands = after(fleet, (fw.Began(POLICY), 50.0), (LISTED, 51.0))
    assert (fleet.machine, calls(commands)) == (OURS, ["Prepare"])


def test_a_machine_of_ours_that_this_computer_forgot_is_adopted_by_its_record() -> None:
    _, commands = after(serving(), (fw.Began(POLICY), 50.0), (fw.Listed((Machine("", OURS.endpoint),)), 51.0))
    assert commands == (fw.Adopt(OURS),)


def test_the_first_wish_stops_and_the_second_leaves_the_machine_alone() -> None:
    fleet, commands = after(serving(), (fw.Told("stop", "stopped by you"), 1.0))
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(fleet, (fw.Told("leave"), 2.0))
    assert [type(each) for each in commands] == [fw.End]
    assert fleet.machine == OURS
    fleet, commands = after(fleet, (fw.Began(POLICY), 60.0), (LISTED, 61.0))
    assert calls(commands) == ["Poll"]


def test_a_stop_while_a_machine_is_brought_up_gives_it_back_at_once() -> None:
    fleet, _ = after(Fleet("run"), (fw.Began(POLICY), 0.0), (fw.Listed(), 0.0), (fw.Told("stop"), 1.0))
    fleet, commands = after(fleet, (fw.BroughtUp(OURS), 20.0))
    assert commands[-1] == fw.Release(OURS)
    _, commands = after(fleet, (fw.Released(OURS.endpoint), 21.0))
    assert (commands[-1].exit_code, commands[-1].state) == (errors.INTERRUPTED, "CANCELLED")


@pytest.mark.parametrize("answer", [fw.Balanced(7.5, 1.0), fw.Failed("CheckBalance", "unreachable", "no route")])
def test_what_the_last_machine_cost_is_counted_before_the_end(answer: fw.Event) -> None:
    fleet, commands = after(serving(Policy(paid=True)), (fw.Polled(2, "done", exit_code=0, step=9, safe=9), 5.0))
    fleet, commands = after(fleet, (fw.Released(OURS.endpoint), 6.0))
    assert calls(commands) == ["CheckBalance"]
    fleet, commands = after(fleet, (answer, 7.0))
    assert isinstance(commands[-1], fw.End)
    assert commands[-1].state == "SUCCEEDED"
    assert fleet.units_used == (2.5 if isinstance(answer, fw.Balanced) else 0.0)
