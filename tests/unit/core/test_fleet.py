"""The fleet's controller decides: nothing that happens breaks it, no machine is forgotten, none of somebody else's is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
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
from supervisor.core.fleet_waiting import due_s as next_word
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
            kinds = {"BringUp": ["refused", "quota"], "ListMachines": ["unreachable"], "CheckBalance": ["unreachable"]}
            return fw.Failed(name, self.chance.choice(kinds.get(name, ["unreachable", "failed", "home"])), "")
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
        fleet, commands = after(fleet.with_(doing="Poll"), (UNREACHABLE, now_s))
        for _ in range(3):
            fleet, commands = after(fleet, (fw.Listed(), now_s))
    assert calls(commands) == ["ListMachines"], "a machine that was lost may still cost"
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
    told = fw.Polled(3, "running", step=50, safe=9, epoch=1)
    fleet, commands = after(serving(policy), (fw.Woke(), at_s), (told, at_s), (told, at_s))
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
    assert calls(commands) == ["Poll"], "the machine is asked before anything is concluded"
    fleet, commands = after(fleet, (fw.Polled(2, "running", step=6, epoch=1), 1.5))
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


STOP = fw.Told("stop", "stopped by Ctrl-C")


def begun_again(fleet: Fleet) -> Fleet:
    """The same fleet after its controller died and another began: the machine is listed."""
    return after(fleet, (fw.Began(POLICY), 100.0), (LISTED, 100.0))[0]


def says(commands: tuple[fw.Command, ...]) -> str:
    return "\n".join(f"{each.words} {each.hint}" for each in commands if isinstance(each, fw.Say | fw.End))


@pytest.mark.parametrize("unheard", [UNREACHABLE, fw.Failed("Poll", "home", "disk full"), fw.Polled(-1, "")])
def test_a_stop_before_the_first_status_asks_the_machine_and_gives_nothing_back(unheard: fw.Event) -> None:
    """A computer that was off and is on again, without a network yet; one Ctrl-C."""
    fleet, commands = after(begun_again(serving()), (unheard, 101.0), (STOP, 101.0))
    seen, now_s = [*calls(commands)], 102.0
    for _ in range(20):
        fleet, commands = after(fleet, (unheard if calls(commands) == ["Poll"] else LISTED, now_s))
        seen += calls(commands)
        if not calls(commands):
            now_s = next_wakeup(fleet, Instant(now_s, 0))
            fleet, commands = after(fleet, (fw.Woke(), now_s))
            seen += calls(commands)
    assert "Poll" in seen
    assert "Release" not in seen
    fleet, commands = after(
        fleet.with_(doing=""), (fw.Polled(900, "running", step=9326, safe=942, epoch=1, waiting=7), now_s)
    )
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(
        fleet, (fw.StopPassedOn(1), now_s), (fw.Polled(901, "done", 130, 9400, 9400, epoch=1), now_s + 9)
    )
    assert commands[-1] == fw.Release(OURS)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PREPARING])
def test_a_stop_asks_a_machine_on_which_an_earlier_controller_may_have_started_the_agent(phase: Phase) -> None:
    fleet = serving().with_(phase=phase, life=serving().life)
    fleet, commands = after(fleet.with_(doing="Prepare"), (fw.Began(POLICY), 50.0), (STOP, 50.5), (LISTED, 51.0))
    assert calls(commands) == ["Poll"]
    trained = after(fleet, (fw.Polled(9, "running", step=800, safe=5, epoch=1), 52.0))[1]
    assert calls(trained) == ["PassOnStop"]
    nothing = after(fleet, (fw.Polled(-1, ""), 52.0))[1]
    assert calls(nothing) == ["Release"], "no agent was ever started there"


@pytest.mark.parametrize(("told", "call"), [
    (fw.Polled(2, "preparing"), "Release"),
    (fw.Polled(2, "running", waiting=10), ""),
    (fw.Polled(2, ""), ""),
])  # fmt: skip
def test_a_machine_without_a_session_is_given_back_only_if_its_status_shows_that_nothing_waits(
    told: fw.Polled, call: str
) -> None:
    fleet, commands = after(serving(), (STOP, 1.0), (told, 2.0))
    if calls(commands) == ["PassOnStop"]:
        fleet, commands = after(fleet, (fw.Failed("PassOnStop", "nothing", "no session serves yet"), 3.0))
    assert [each for each in calls(commands) if each == "Release"] == ([call] if call else [])


def test_a_stop_that_named_a_session_which_died_is_passed_on_to_the_next_one() -> None:
    first = fw.Polled(2, "running", step=6, epoch=1)
    fleet, _ = after(serving(), (STOP, 1.0), (first, 2.0), (fw.StopPassedOn(1), 2.5))
    assert calls(after(fleet, (replace(first, beat=3), 3.0))[1]) == []
    assert calls(after(fleet, (replace(first, beat=3, epoch=2), 3.0))[1]) == ["PassOnStop"]


def test_the_time_to_stop_counts_from_the_first_status_and_its_end_is_told() -> None:
    fleet, now_s = after(serving(), (STOP, 1.0))[0], 2.0
    fleet, _ = after(fleet, (UNREACHABLE, now_s))
    assert fleet.stop_s is None
    told = fw.Polled(5, "running", step=7, safe=5, epoch=1)
    fleet, _ = after(
        fleet, (LISTED, 3000.0), (told, 3001.0), (fw.StopPassedOn(1), 3002.0), (replace(told, beat=6), 3003.0)
    )
    fleet, commands = after(fleet, (fw.Woke(), 3001.0 + 1800.0))
    assert calls(commands) == ["Release"]
    assert "has not ended 30 min after the stop" in says(commands)
    assert "this computer holds step 5; what was not fetched is lost" in says(commands)


def test_a_leave_takes_the_stop_back_and_the_next_launch_goes_on_after_it() -> None:
    told = fw.Polled(2, "running", step=6, epoch=1)
    fleet, commands = after(serving(), (STOP, 1.0), (told, 2.0), (fw.StopPassedOn(1), 2.5), (fw.Told("leave"), 3.0))
    assert "goes on by itself" in says(commands)
    fleet = begun_again(fleet)
    assert (fleet.stop, fleet.stop_passed_on) == ("", False)
    done = fw.Polled(9, "done", 143, 50, 50, epoch=1)
    next_, commands = after(fleet, (done, 101.0))
    assert (next_.release_then, calls(commands)) == ("next", ["Release"])
    assert "the stop of an earlier launch" in says(commands)
    ended, _ = after(fleet, (replace(done, asked=True), 101.0))
    assert ended.release_then == "end", "a person asked for it since"
    stopped, _ = after(serving(), (done, 101.0))
    assert stopped.release_then == "end", "this launch has asked for nothing"


def test_a_leave_names_the_call_that_is_in_flight() -> None:
    fleet, _ = after(Fleet("run"), (fw.Began(POLICY, "colab"), 0.0), (fw.Listed(), 0.0))
    _, commands = after(fleet, (fw.Told("stop"), 1.0), (fw.Told("leave"), 1.6))
    assert "a machine may still appear: run-1" in says(commands)
    fleet, _ = after(serving(), (fw.Polled(2, "done", 0, 9, 9), 2.0))
    _, commands = after(fleet, (fw.Told("leave"), 2.1))
    assert "machine-1 is being given back" in says(commands)


def gone(fleet: Fleet, at_s: float) -> Fleet:
    fleet, _ = after(fleet.with_(doing="Poll"), (UNREACHABLE, at_s))
    for absent in range(3):
        fleet, _ = after(fleet, (fw.Listed((THEIRS,)), at_s + absent))
    assert fleet.machine is None
    return fleet


SECOND = Machine("run-2", "machine-2", record="r2")


def second(at_s: float) -> Fleet:
    """The first machine was lost, and the second serves."""
    fleet = gone(serving().with_(doing="ListMachines"), at_s)
    fleet, _ = after(
        fleet, (fw.Woke(), at_s + 9), (fw.Listed(), at_s + 10), (fw.BroughtUp(SECOND), at_s + 11), (fw.Prepared(), at_s + 12),
        (fw.AgentStarted(), at_s + 13), (fw.Polled(1, "running", step=9, safe=9), at_s + 14),
    )  # fmt: skip
    assert fleet.machine == SECOND
    return fleet


@pytest.mark.parametrize("listed", [OURS, Machine("", "machine-1"), Machine("run-7", "machine-7", record="r7")])
def test_a_lost_machine_that_is_listed_again_beside_its_successor_is_given_back(listed: Machine) -> None:
    fleet, commands = after(second(10.0), (fw.Woke(), 100.0))
    assert calls(commands) == ["ListMachines"], "one more listing some time after a loss"
    fleet, commands = after(fleet, (fw.Listed((SECOND, listed, THEIRS)), 101.0))
    (release,) = [each for each in commands if isinstance(each, fw.Release)]
    assert release.machine.endpoint == listed.endpoint
    assert release.machine.record, "a machine is given back by its record"
    fleet, commands = after(fleet, (fw.Failed("Release", "unreachable", "no answer"), 102.0))
    assert "--on" in says(commands)
    fleet, commands = after(fleet.with_(look_lost_s=103.0), (fw.Woke(), 103.0), (fw.Listed((SECOND, listed)), 104.0))
    fleet, commands = after(fleet, (fw.Released(listed.endpoint), 105.0), (fw.Woke(), 105.0))
    assert (fleet.machine, calls(commands)) == (SECOND, ["Poll"])
    assert [life.end for life in fleet.lives] == (["given back"] if listed.endpoint == OURS.endpoint else ["lost"])


def test_a_lost_machine_is_looked_for_as_long_as_it_could_cost_and_not_longer() -> None:
    fleet, now_s, looks = second(10.0), 100.0, []
    while now_s < 13.5 * 3600:
        fleet, commands = after(fleet, (fw.Woke(), now_s))
        if calls(commands) == ["ListMachines"]:
            looks.append(now_s)
            fleet, commands = after(fleet, (fw.Listed((SECOND,)), now_s))
        fleet, _ = after(fleet, (fw.Polled(int(now_s), "running", step=9, safe=9, saved=int(now_s)), now_s))
        now_s += 30
    assert len(looks) >= 40
    assert max(later - earlier for earlier, later in pairwise(looks)) <= 960
    assert looks[-1] <= 12 * 3600 + 60


def test_before_the_end_a_lost_machine_is_looked_for_and_named_where_nobody_knows() -> None:
    fleet, _ = after(second(10.0), (fw.Polled(2, "done", 0, 9, 9), 30.0), (fw.Released("machine-2"), 31.0))
    assert fleet.doing == "ListMachines"
    found, commands = after(fleet, (fw.Listed((OURS, THEIRS)), 32.0))
    assert calls(commands) == ["Release"]
    found, commands = after(found, (fw.Released("machine-1"), 33.0))
    assert (commands[-1].state, found.phase) == ("SUCCEEDED", Phase.ENDED)
    none, commands = after(fleet, (fw.Listed((THEIRS,)), 32.0))
    assert (commands[-1].state, none.phase) == ("SUCCEEDED", Phase.ENDED)
    for at_s in (32.0, 40.0, 50.0):
        fleet, commands = after(fleet, (fw.Failed("ListMachines", "unreachable", "no route"), at_s))
        if at_s < 50:
            fleet, _ = after(fleet, (fw.Woke(), at_s + 5))
    assert "machine-1 was lost, and it is not known whether it is gone" in says(commands)
    assert "launch --on" in says(commands)
    assert commands[-1].state == "SUCCEEDED"


def test_an_outage_of_the_listing_leaves_the_machine_itself_asked() -> None:
    fleet, now_s, seen = serving(), 5.0, []
    commands: tuple[fw.Command, ...] = ()
    for _ in range(30):
        made = calls(commands)
        seen += made
        answer = {
            "ListMachines": fw.Failed("ListMachines", "unreachable", "503"),
            "Poll": UNREACHABLE if len(seen) < 4 else fw.Polled(len(seen), "running", step=len(seen), safe=len(seen)),
        }  # fmt: skip
        fleet, commands = after(fleet, (answer[made[0]] if made else fw.Woke(), now_s))
        now_s = now_s + 1 if calls(commands) else next_wakeup(fleet, Instant(now_s, 0))
    assert seen.count("Poll") > 5
    assert fleet.life.safe > 4


@pytest.mark.parametrize("call", ["BringUp", "ListMachines"])
def test_what_cannot_get_better_ends_where_no_machine_was_ever_there(call: str) -> None:
    fleet, commands = after(Fleet("run"), (fw.Began(POLICY), 0.0))
    at_s = 0.0
    while not any(isinstance(each, fw.End) for each in commands):
        at_s += 100
        made = calls(commands)
        failed = fw.Failed(call, "failed", "there is no python3 on host", "install it")
        fleet, commands = after(fleet, (failed if made == [call] else fw.Listed() if made else fw.Woke(), at_s))
        assert at_s < 1000
    assert (commands[-1].exit_code, commands[-1].hint) == (errors.FAILED_PRECHECKS, "install it")


def test_a_login_that_ends_at_night_is_waited_for_and_said_once_and_after_half_an_hour_again() -> None:
    fleet, now_s, said = gone(serving().with_(doing="ListMachines"), 1.0), 10.0, []
    while now_s < 3600:
        fleet, commands = after(fleet, (fw.Woke(), now_s))
        failed = fw.Failed("ListMachines", "login", "Colab does not know this login", "run `colab usage`")
        fleet, commands = after(fleet, (failed, now_s + 1))
        said += [each for each in commands if isinstance(each, fw.Say)]
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    assert [each.hint for each in said] == ["run `colab usage`"] * 2
    assert "(for 30 min now)" in said[1].words
    fleet, commands = after(fleet, (fw.Woke(), now_s), (fw.Listed((THEIRS,)), now_s))
    assert calls(commands) == ["BringUp"]


def test_each_kind_of_trouble_is_shown_the_first_time() -> None:
    fleet, _ = after(serving(), (fw.Woke(), 1.0), (UNREACHABLE, 2.0), (LISTED, 3.0))
    fleet, commands = after(fleet, (fw.Failed("Poll", "login", "a login is wanted", "log in"), 4.0))
    assert "a login is wanted log in" in says(commands)
    fleet, commands = after(fleet.with_(doing="Poll"), (fw.Failed("Poll", "home", "disk full", "make room"), 5.0))
    assert "disk full make room" in says(commands)
    fleet, commands = after(fleet.with_(doing="Poll"), (fw.Failed("Poll", "home", "disk full", "make room"), 6.0))
    assert says(commands) == ""


@pytest.mark.parametrize(
    ("units", "policy", "at_s", "first"),
    [
        (10.0, POLICY, 60.0, "ListMachines"),
        (1.01, POLICY, 60.0, "CheckBalance"),  # the machine that died may have used the rest up
        (10.0, POLICY, 7200.0, "CheckBalance"),
        (10.0, replace(POLICY, units_max=5.0), 60.0, "CheckBalance"),
    ],
)
def test_after_a_machine_that_brought_something_the_next_one_waits_for_nothing_that_is_known(
    units: float, policy: Policy, at_s: float, first: str
) -> None:
    fleet = serving(replace(policy, paid=True)).with_(units=units, units_per_hour=2.0)
    fleet, _ = after(fleet, (fw.Polled(2, "running", step=9, safe=9), 1.0))
    fleet = gone(fleet.with_(doing="ListMachines"), at_s)
    now_s = next_wakeup(fleet, Instant(at_s + 2, 0))  # the last listing was then
    assert now_s <= at_s + 2.01
    fleet, commands = after(fleet, (fw.Woke(), now_s))
    assert calls(commands) == [first]
    if first == "ListMachines":
        assert calls(after(fleet, (fw.Listed(), now_s + 1))[1]) == ["BringUp"]


@pytest.mark.parametrize("state", ["serving", "bringing up", "waiting", "in a call"])
def test_no_state_is_silent_for_longer_than_three_minutes(state: str) -> None:
    policy = replace(POLICY, paid=True)
    fleet = serving(policy).with_(units_per_hour=1.96)
    if state == "in a call":
        fleet, _ = after(fleet, (fw.Woke(), 1.0))
    elif state != "serving":
        fleet, _ = after(Fleet("run"), (fw.Began(policy), 0.0), (fw.Balanced(5.0, 0.0), 0.0), (fw.Listed(), 0.0))
        if state == "waiting":
            fleet, _ = after(fleet, (fw.Failed("BringUp", "refused", "no T4"), 1.0))
    said, last_s = [], 0.0
    for at_s in range(0, 7200, 5):
        due = at_s >= next_word(fleet)
        fleet, commands = after(fleet, (fw.Waited(), float(at_s)))
        if commands:
            assert due
            said.append(at_s - last_s)
            last_s = float(at_s)
            assert "waiting for" in says(commands)
            assert "since" in says(commands) or "nothing has changed for" in says(commands)
            cost = "costs 1.96 units/h" if state in {"serving", "in a call"} else "cost"
            assert cost in says(commands)
            assert "Ctrl-C" in says(commands)
    assert max(said) <= 180
    if state == "serving":
        assert "`logs`" in says(after(fleet, (fw.Waited(), 1e6))[1])
        moved, _ = after(fleet, (fw.Polled(99, "running", step=500, safe=9), 1e6))
        assert next_word(moved) > 1e6 + 100


def test_words_about_waiting_come_again_soon_after_the_last_status_and_rarely_while_statuses_come() -> None:
    fleet, said = serving(), list[int]()
    for at_s in range(0, 14400, 5):
        comes = at_s < 7200  # later each call hangs
        if comes and at_s % 60 == 0:
            fleet, _ = after(fleet, (fw.Polled(at_s, "running", step=100), float(at_s)))
        fleet, commands = after(fleet, (fw.Waited(), float(at_s)))
        if commands:
            said.append(at_s)
    shown = [at_s for at_s in said if at_s < 7200]
    assert 2 <= len(shown) <= 8
    later = [7140, *(at_s for at_s in said if at_s >= 7200), 14400]
    assert max(after_s - before_s for before_s, after_s in pairwise(later)) <= 180


def test_a_run_that_begins_at_an_earlier_step_again_with_nothing_safe_is_said() -> None:
    fleet, _ = after(serving(safe=None), (fw.Polled(2, "running", step=2711, epoch=1), 1.0))
    _, commands = after(fleet, (fw.Polled(3, "running", step=583, epoch=2), 2.0))
    assert "went back from step 2,711 to step 583 on its machine; nothing is safe yet" in says(commands)
    fleet, _ = after(serving(safe=500), (fw.Polled(2, "running", step=2711, safe=500, epoch=1), 1.0))
    _, commands = after(fleet, (fw.Polled(3, "running", step=500, safe=500, epoch=2), 2.0))
    assert says(commands) == "", "it goes on from what is safe"


def test_the_cell_that_waits_on_the_machine_is_started_again_where_it_is_gone() -> None:
    fleet, commands = after(serving(), (fw.Polled(2, "running", step=6, watched=False), 1.0))
    assert commands[-1] == fw.StartAgent(OURS, again=True)
    assert calls(after(fleet, (fw.AgentStarted(), 2.0))[1]) == ["Poll"]
    for watched in (True, None):
        assert calls(after(serving(), (fw.Polled(2, "running", step=6, watched=watched), 1.0))[1]) == []


def test_a_machine_is_asked_every_few_seconds_until_its_first_step_is_seen_and_then_after_each_save() -> None:
    policy = replace(POLICY, poll_s=60.0)
    fleet, _ = after(
        Fleet("run"), (fw.Began(policy), 0.0), (fw.Listed(), 0.0), (fw.BroughtUp(OURS), 0.0), (fw.Prepared(), 0.0),
        (fw.AgentStarted(), 0.0), (fw.Polled(1, "running", waiting=2), 10.0),
    )  # fmt: skip
    assert next_wakeup(fleet, Instant(10.0, 0)) == 15.0
    fleet, _ = after(fleet, (fw.Polled(2, "running", step=3), 20.0))
    assert next_wakeup(fleet, Instant(20.0, 0)) == 35.0, "nothing of it is safe yet"
    for told, pause_s in (
        (fw.Polled(2, "running", step=6, safe=6), 60.0),
        (fw.Polled(2, "running", step=6, safe=6, next_save_s=20.0), 23.0),
        (fw.Polled(2, "running", step=6, safe=6, next_save_s=900.0), 60.0),
    ):
        fleet, _ = after(serving(policy), (told, 10.0))
        assert next_wakeup(fleet, Instant(10.0, 0)) == 10.0 + pause_s, told


def test_units_are_read_while_a_machine_serves_and_count_on_between() -> None:
    policy = replace(POLICY, paid=True)
    fleet, commands = after(serving(policy), (fw.Woke(), 61.0))
    assert calls(commands) == ["CheckBalance"]
    fleet, commands = after(fleet, (fw.Balanced(9.9, 1.96), 62.0))
    assert calls(commands) == ["ListMachines"]
    assert fleet.used(62.0 + 3600) == pytest.approx(0.1 + 1.96)
    fleet, commands = after(fleet, (LISTED, 63.0), (fw.Polled(9, "running", step=9, safe=9), 64.0), (fw.Woke(), 70.0))
    assert calls(commands) == ["Poll"], "not at every poll"


def test_the_last_lines_of_a_script_that_failed_are_shown() -> None:
    _, commands = after(serving(), (fw.Polled(2, "done", 1, 9, 9, output="Traceback\nValueError: 7"), 1.0))
    assert "ValueError: 7" in says(commands)


def test_what_the_supervisor_there_warns_of_is_passed_on_once_whatever_its_numbers() -> None:
    def told(beat: int, words: str) -> fw.Polled:
        return fw.Polled(beat, "running", step=beat, safe=0, epoch=1, warnings=("the loss is not a number", words))

    full = "the save at step {} failed: No space left on device"
    fleet, commands = after(serving(), (told(2, full.format(985)), 10.0))
    assert "run-1: the save at step 985 failed: No space left on device" in says(commands)
    assert "the loss is not a number" in says(commands)
    for at_s in range(20, 1800, 60):
        fleet, commands = after(fleet, (told(at_s, full.format(f"{at_s},000")), float(at_s)))
        assert says(commands) == ""
    _, commands = after(fleet, (told(2000, full.format(9)), 2000.0))
    assert "No space left on device" in says(commands)


def test_a_machine_that_gets_older_code_than_the_disk_has_is_said() -> None:
    fleet = serving().with_(phase=Phase.PREPARING)
    _, commands = after(fleet, (fw.Prepared(5, 1, ("a.py", "b.py", "c.py", "d.py")), 2.0))
    assert "the project was edited since this launch began (a.py, b.py, c.py, 1 more)" in says(commands)
    assert "Ctrl-C, then the same command again" in says(commands)


def test_a_machine_of_another_run_keeps_this_one_from_a_second_machine_for_the_same_account() -> None:
    other = Machine("night-3ab-1", "m-s-7", record="r")
    policy = replace(POLICY, paid=True)
    begun = ((fw.Began(policy, "colab"), 0.0), (fw.Balanced(9.0, 1.0), 0.0))
    _, commands = after(Fleet("run"), *begun, (fw.Listed((other, THEIRS)), 1.0))
    (end,) = commands
    assert isinstance(end, fw.End)
    assert end.exit_code == errors.FENCED
    assert "`launch --on colab --release m-s-7`" in end.hint
    assert calls(after(Fleet("run"), *begun, (fw.Listed((THEIRS,)), 1.0))[1]) == ["BringUp"]
    free = ((fw.Began(POLICY, "local"), 0.0), (fw.Listed((other,)), 1.0))
    assert calls(after(Fleet("run"), *free)[1]) == ["BringUp"]


def test_the_end_says_why_in_the_sessions_own_words() -> None:
    told = fw.Polled(2, "done", 1, 9, 9, cause="the script refused its arguments")
    _, commands = after(serving(), (told, 1.0), (fw.Released("machine-1"), 2.0))
    assert commands[-1].words == "the run ended with exit code 1: the script refused its arguments"


def test_a_machine_that_only_prepares_for_ten_minutes_is_restarted_and_then_given_back() -> None:
    """Also where it tells the last step of a session of before, and its beat goes on."""
    fleet, now_s, seen, words = serving(), 1.0, [], ""
    commands: tuple[fw.Command, ...] = ()
    while "Release" not in seen:
        made = calls(commands)
        seen += made
        told = fw.Polled(
            int(now_s), fw.PREPARING, step=300, safe=100, line="waiting for 2 parcels from your computer", epoch=2
        )
        answers = {"Poll": told, "ListMachines": LISTED, "Restart": fw.Restarted(), "StartAgent": fw.AgentStarted()}
        fleet, commands = after(fleet, (answers.get(made[0], fw.Woke()) if made else fw.Woke(), now_s))
        words += says(commands)
        now_s = now_s + 1 if calls(commands) else max(now_s + 1, next_wakeup(fleet, Instant(now_s, 0)))
    assert seen.count("Restart") == 2
    assert "has been preparing for 10 min (waiting for 2 parcels from your computer)" in words


def test_what_is_waited_for_is_named_with_the_machine_that_it_is_about() -> None:
    fleet = serving()
    stray = fleet.with_(doing="Release", stray=replace(OURS, endpoint="stray-1"))
    for waiting, words in (
        (fleet.with_(doing="Poll", line="step 5"), "a new step of machine-1 (its last status: step 5)"),
        (after(fleet, (fw.Polled(2, "running", step=9, trained=True), 1.0))[0], "the results of machine-1"),
        (after(fleet, (fw.Polled(2, fw.HANDING_OVER, step=9), 1.0))[0], "the results of machine-1"),
        (fleet.with_(doing="ListMachines"), "the list of machines"),
        (fleet.with_(phase=Phase.PREPARING, doing="Prepare"), "code and checkpoint to reach machine-1"),
        (fleet.with_(phase=Phase.RELEASING, doing="Release"), "machine-1 to be given back"),
        (stray, "stray-1 to be given back"),
        (
            fleet.with_(machine=None, life=None, name="run-2", phase=Phase.BRINGING_UP, doing="BringUp"),
            "the new machine run-2",
        ),
    ):
        _, commands = after(waiting, (fw.Waited(), 1e6))
        assert f"waiting for {words}; " in says(commands)


@given(
    st.lists(st.sampled_from(["none", "theirs", "ours", "no answer", "no word"]), min_size=40, max_size=80),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_machine_that_answers_is_never_replaced_nor_given_back_whatever_the_listings_lack(
    answers: list[str], begun_anew: bool
) -> None:
    """The listings are one word, the machine's own answer is another: only without both it is lost."""
    fleet, now_s, beat = serving(replace(POLICY, paid=True)), 1.0, 1
    commands: tuple[fw.Command, ...] = ()
    if begun_anew:
        fleet, commands = after(fleet, (fw.Began(replace(POLICY, paid=True)), now_s))
    for listing in answers:
        if not calls(commands):
            now_s = next_wakeup(fleet, Instant(now_s, now_s))
            fleet, commands = after(fleet, (fw.Woke(), now_s))
            continue
        (call,) = calls(commands)
        assert call in {"Poll", "ListMachines", "CheckBalance", "Adopt"}
        beat += 1
        listed = {"none": (), "theirs": (THEIRS,), "ours": (OURS,), "no word": (replace(OURS, name=""),)}
        heard: dict[str, fw.Event] = {
            "Poll": fw.Polled(beat, "running", step=beat, safe=beat),
            "ListMachines": fw.Listed(listed[listing]) if listing in listed else fw.Failed(call, "unreachable", "503"),
            "CheckBalance": fw.Balanced(9.0, 1.0), "Adopt": fw.Adopted(OURS),
        }  # fmt: skip
        now_s += 1
        fleet, commands = after(fleet, (heard[call], now_s))
        assert fleet.machine == OURS


@pytest.mark.parametrize("kind", ["gone", "unreachable"])
def test_listings_that_lack_a_machine_and_its_own_silence_together_are_enough_after_an_outage_too(kind: str) -> None:
    fleet, commands = after(serving(), (fw.Began(POLICY), 1.0))
    for _ in range(4):  # nothing gets through: the pauses have grown
        fleet, commands = after(
            fleet.with_(doing="ListMachines"), (fw.Failed("ListMachines", "unreachable", "no route"), 2.0)
        )
    for at_s in range(100, 103):
        fleet, commands = after(fleet, (fw.Listed((THEIRS,)), float(at_s)))
    assert calls(commands) == ["Poll"]
    unwritten, _ = after(fleet, (fw.Failed("Poll", "home", "disk full"), 103.0))
    assert unwritten.machine == OURS, "this computer's trouble is no answer of the machine"
    fleet, _ = after(fleet, (fw.Failed("Poll", kind, "no machine"), 103.0))
    assert fleet.machine is None
    assert next_wakeup(fleet, Instant(103.0, 103.0)) < 111
