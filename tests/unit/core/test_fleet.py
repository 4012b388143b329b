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
from supervisor.core.clock import Instant
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.decide import decide, next_wakeup
from supervisor.core.fleet.provisioning import KINDS, Machine
from supervisor.core.fleet.state import Fleet, FleetPhase, FleetPolicy
from supervisor.core.fleet.waiting import due_s as next_word
from supervisor.core.wire import names

CALLS = get_args(fw.Call)
POLICY = FleetPolicy(listings=3)
OURS = Machine("run-1", "machine-1", record="r1")
THEIRS = Machine("", "theirs")

MACHINES = st.sampled_from([OURS, Machine("run-2", "machine-2", record="r2"), THEIRS, Machine("", "machine-1")])
STEPS = st.one_of(st.none(), st.integers(0, 500))
CODES = st.sampled_from([None, 0, 1, 3, 4, 42, 75, 93, 130, 143])
UNITS = st.one_of(st.none(), st.floats(0, 100))
EVENTS = st.one_of(
    st.builds(
        fw.ControllerStarted,
        st.builds(FleetPolicy, machines_max=st.integers(1, 3), machines_per_day_max=st.integers(1, 3), paid=st.booleans(), units_max=UNITS),
    ),
    st.just(fw.PollTimerFired()),
    st.builds(fw.UserRequest, st.sampled_from(["stop", "leave"])),
    st.builds(fw.BalanceRead, UNITS, UNITS),
    st.builds(fw.MachinesListed, st.lists(MACHINES, max_size=3).map(tuple)),
    st.builds(fw.MachineCreated, MACHINES),
    st.builds(fw.MachineAdopted, MACHINES),
    st.builds(fw.MachinePrepared, STEPS),
    st.just(fw.AgentStarted()),
    st.builds(
        fw.MachinePolled, st.integers(-1, 9), st.sampled_from(["", "running", "done"]), CODES, STEPS, STEPS, st.booleans()
    ),
    st.just(fw.AgentRestarted()),
    st.just(fw.StopForwarded()),
    st.builds(fw.MachineReleased, st.sampled_from(["machine-1", "theirs"])),
    st.builds(fw.CallFailed, st.sampled_from([names.of(kind) for kind in CALLS]), st.sampled_from([*KINDS, "home", "nothing", "hopeless"]), st.just("words")),
)  # fmt: skip


@given(st.lists(st.tuples(EVENTS, st.floats(0, 2000)), max_size=30))
@settings(max_examples=200)
def test_any_event_in_any_fleet_is_decided(happened: list[tuple[fw.Event, float]]) -> None:
    fleet, now_s = Fleet("run"), 0.0
    for event, later_s in happened:
        now_s += later_s
        now = Instant(now_s, now_s)
        ended = fleet.phase is FleetPhase.ENDED
        fleet, commands = decide(fleet, event, now)
        assert sum(isinstance(each, CALLS) for each in commands) <= 1
        assert not (ended and commands and not isinstance(event, fw.ControllerStarted)), "who has ended is deaf"
        assert next_wakeup(fleet, now) > now_s
        going_on = fleet.call_in_flight or fleet.phase is FleetPhase.ENDED or not isinf(next_wakeup(fleet, now))
        assert (
            going_on
            or any(isinstance(each, fw.EndController) for each in commands)
            or not isinstance(event, fw.PollTimerFired)
        )


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
        name = names.of(type(call))
        if self.chance.random() < self.trouble:
            kinds = {"BringUp": ["refused", "quota"], "ListMachines": ["unreachable"], "CheckBalance": ["unreachable"]}
            return fw.CallFailed(name, self.chance.choice(kinds.get(name, ["unreachable", "failed", "home"])), "")
        done = self.do(call)
        if self.chance.random() < self.trouble and not isinstance(done, fw.MachinesListed):
            return fw.CallFailed(name, "unreachable", "the answer was lost")
        return done

    def do(self, call: fw.Call) -> fw.Event:  # noqa: C901, PLR0911, because it is a table
        machine = getattr(call, "machine", None)
        if machine is not None and self.chance.random() < self.trouble / 4:
            self.machines.pop(machine.endpoint, None)
        there = machine is None or machine.endpoint in self.machines
        match call:
            case fw.ListMachines():
                return fw.MachinesListed(self.listed())
            case fw.CreateMachine():
                return fw.MachineCreated(self.brought_up(call.name))
            case fw.CheckBalance():
                return fw.BalanceRead(10.0)
            case fw.ReleaseMachine():
                assert machine.endpoint in self.made, "only what is ours is given back"
                self.machines.pop(machine.endpoint, None)
                return fw.MachineReleased(machine.endpoint)
            case _ if not there:
                return fw.CallFailed(names.of(type(call)), self.chance.choice(["gone", "unreachable"]), "")
            case fw.AdoptMachine():
                return fw.MachineAdopted(machine)
            case fw.PrepareMachine():
                return fw.MachinePrepared(None, 1)
            case fw.StartAgent():
                return fw.AgentStarted()
            case fw.RestartAgent():
                return fw.AgentRestarted()
            case fw.ForwardStop():
                return fw.StopForwarded()
        self.steps += self.chance.randrange(30)
        self.beat += 1
        done = self.steps > 400
        return fw.MachinePolled(self.beat, "done" if done else "running", 0 if done else None, self.steps, self.steps)

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
    policy = replace(
        POLICY,
        machines_without_progress_max=1000,
        machines_max=1000,
        machines_per_day_max=1000,
        provision_failures_max=1000,
    )
    journal: list[tuple[fw.Event, Instant]] = []
    fleet, event, code = Fleet("run"), fw.ControllerStarted(policy), None
    for _ in range(3000):
        now = Instant(now_s, now_s)
        if not isinstance(event, fw.PollTimerFired):
            journal.append((event, now))
        fleet, commands = decide(fleet, event, now)
        if code is None and fleet.phase is FleetPhase.ENDED:
            code = fleet.exit_code
            break
        call = next((each for each in commands if isinstance(each, CALLS)), None)
        if deaths and chance.random() < 0.05:
            if call is not None and chance.random() < 0.5:
                world.do(call)  # it was done, and nobody wrote down what came of it
            fleet, event = folded(journal), fw.ControllerStarted(policy)
        elif call is not None:
            event = world.answer(call)
        else:
            event, now_s = fw.PollTimerFired(), next_wakeup(fleet, now)
        now_s += chance.random()
    assert code == 0
    assert list(world.machines) == ["theirs"]
    assert {life.machine.endpoint for life in fleet.machine_history} == set(world.made)


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
    fleet, commands = decide(
        folded(journal[:lost] + journal[lost + 1 :]), fw.ControllerStarted(POLICY), Instant(1e6, 1e6)
    )
    assert commands
    assert fleet.call_in_flight


def a_night(seed: int) -> list[fw.Event]:
    world, fleet, event, at_s = Hour(Random(seed), 0.2), Fleet("run"), fw.ControllerStarted(POLICY), 0.0
    events: list[fw.Event] = []
    while len(events) < 60 and fleet.phase is not FleetPhase.ENDED:
        events.append(event)
        fleet, commands = decide(fleet, event, Instant(at_s, at_s))
        call = next((each for each in commands if isinstance(each, CALLS)), None)
        at_s = at_s + 1 if call else next_wakeup(fleet, Instant(at_s, at_s))
        event = world.answer(call) if call else fw.PollTimerFired()
    return events


def serving(policy: FleetPolicy = POLICY, safe: int | None = 0) -> Fleet:
    """A fleet whose first machine serves, at 0 s, and has just told its beat."""
    fleet = Fleet("run")
    for event in (
        fw.ControllerStarted(policy), fw.BalanceRead(10.0, 1.0) if policy.paid else fw.PollTimerFired(), fw.MachinesListed(), fw.MachineCreated(OURS), fw.MachinePrepared(),
        fw.AgentStarted(), fw.MachinePolled(1, "running", step=5, durable_step=safe),
    ):  # fmt: skip
        fleet, _ = decide(fleet, event, Instant(0, 0))
    assert fleet.phase is FleetPhase.SERVING
    return fleet


def after(fleet: Fleet, *happened: tuple[fw.Event, float]) -> tuple[Fleet, tuple[fw.Command, ...]]:
    commands: tuple[fw.Command, ...] = ()
    for event, at_s in happened:
        fleet, commands = decide(fleet, event, Instant(at_s, at_s))
    return fleet, commands


def calls(commands: tuple[fw.Command, ...]) -> list[str]:
    return [names.of(type(each)) for each in commands if isinstance(each, CALLS)]


UNREACHABLE = fw.CallFailed("Poll", "unreachable", "no route")
LISTED = fw.MachinesListed((OURS, THEIRS))


def test_a_computer_that_slept_asks_the_machine_before_it_restarts_anything() -> None:
    fleet, commands = after(serving(), (fw.PollTimerFired(), 3600.0))
    assert calls(commands) == ["Poll"]
    fleet, commands = after(fleet, (fw.MachinePolled(900, "running", step=900, durable_step=800), 3601.0))
    assert fleet.machine == OURS
    assert calls(commands) == []


def test_an_hour_without_a_network_at_home_changes_nothing_for_the_machine() -> None:
    fleet, now_s = serving(), 5.0
    for _ in range(60):
        fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
        while calls(commands):
            (call,) = calls(commands)
            assert call in {"Poll", "ListMachines"}
            fleet, commands = after(fleet, (fw.CallFailed(call, "unreachable", "no route"), now_s + 1))
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
    while calls(commands) == ["ListMachines"]:
        fleet, commands = after(fleet, (LISTED, now_s))
    assert calls(commands) == ["Poll"], "the network is back, and the machine was never in doubt"


def test_a_full_disk_at_home_takes_no_machine_away() -> None:
    fleet, now_s, seen = serving(), 5.0, set()
    for _ in range(60):
        fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
        while calls(commands) == ["ListMachines"]:
            fleet, commands = after(fleet, (LISTED, now_s))
        seen.update(calls(commands))
        fleet, _ = after(fleet, (fw.CallFailed("Poll", "home", "no space left"), now_s + 1))
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    assert seen == {"Poll"}


def test_a_machine_whose_beat_stands_still_is_restarted_twice_and_then_given_back() -> None:
    fleet, now_s, seen = serving(), 1.0, []
    answers = {
        "Poll": fw.MachinePolled(1, "running", step=5, durable_step=0), "ListMachines": LISTED, "Restart": fw.AgentRestarted(), "StartAgent": fw.AgentStarted(),
    }  # fmt: skip
    commands: tuple[fw.Command, ...] = ()
    while "Release" not in seen:
        made = calls(commands)
        seen += made
        event = fw.PollTimerFired() if not made else answers.get(made[0], fw.PollTimerFired())
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
        event = fw.PollTimerFired() if not made else LISTED if made == ["ListMachines"] else UNREACHABLE
        fleet, commands = after(fleet, (event, now_s))
        now_s = now_s + 1 if calls(commands) else max(now_s + 1, next_wakeup(fleet, Instant(now_s, 0)))
    assert seen.count("Poll") >= 4


def test_a_machine_counts_as_lost_after_enough_listings_apart_from_each_other() -> None:
    fleet, commands = after(
        serving(), (fw.PollTimerFired(), 1.0), (fw.CallFailed("Poll", "gone", "no such machine"), 2.0)
    )
    assert calls(commands) == ["ListMachines"]
    for absent in (1, 2):
        fleet, commands = after(fleet, (fw.MachinesListed((THEIRS,)), 2.0 + absent))
        assert fleet.machine == OURS
        assert next_wakeup(fleet, Instant(2.0 + absent, 0)) >= 2.0 + absent + POLICY.listings_apart_s
        fleet, commands = after(fleet, (fw.PollTimerFired(), 10.0 * absent))
        assert calls(commands) == ["ListMachines"]
    fleet, _ = after(fleet, (fw.MachinesListed((THEIRS,)), 30.0))
    assert fleet.machine is None
    assert [life.end for life in fleet.machine_history] == ["lost"]
    fleet, commands = after(fleet, (fw.PollTimerFired(), 40.0), (fw.MachinesListed((THEIRS,)), 41.0))
    assert commands[-1:] == (fw.CreateMachine("run-2", POLICY.request),)


def test_three_machines_in_a_row_that_bring_nothing_home_are_enough() -> None:
    fleet, now_s = serving(safe=None), 0.0
    for number in (1, 2, 3):
        machine = Machine(f"run-{number}", f"machine-{number}", record="r")
        if number > 1:
            now_s += 1000
            fleet, commands = after(fleet, (fw.PollTimerFired(), now_s), (fw.MachinesListed(), now_s))
            assert calls(commands) == ["BringUp"]
            fleet, _ = after(
                fleet, (fw.MachineCreated(machine), now_s), (fw.MachinePrepared(), now_s), (fw.AgentStarted(), now_s)
            )
        fleet, commands = after(fleet.with_(call_in_flight="Poll"), (UNREACHABLE, now_s))
        for _ in range(3):
            fleet, commands = after(fleet, (fw.MachinesListed(), now_s))
    assert calls(commands) == ["ListMachines"], "a machine that was lost may still cost"
    fleet, commands = after(fleet, (fw.MachinesListed(), now_s))
    (end,) = [each for each in commands if isinstance(each, fw.EndController)]
    assert (end.exit_code, fleet.phase) == (errors.NO_PROGRESS, FleetPhase.ENDED)


@pytest.mark.parametrize(
    ("code", "state", "last"),
    [
        (0, "SUCCEEDED", 0), (1, "FAILED", 1), (3, "FAILED", 3), (4, "FAILED", 4), (75, "FAILED", 75), (93, "FAILED", 93),
        (130, "CANCELLED", 130), (143, "CANCELLED", 143),
    ],
)  # fmt: skip
def test_the_runs_own_end_is_the_controllers_after_the_machine_is_given_back(code: int, state: str, last: int) -> None:
    fleet, commands = after(serving(), (fw.PollTimerFired(), 1.0), (fw.MachinePolled(2, "done", code, 9, 9), 2.0))
    assert commands[-1] == fw.ReleaseMachine(OURS)
    fleet, commands = after(fleet, (fw.MachineReleased(OURS.endpoint), 3.0))
    assert isinstance(commands[-1], fw.EndController)
    assert (commands[-1].state, commands[-1].exit_code) == (state, last)
    assert after(fleet, (fw.PollTimerFired(), 9.0), (LISTED, 9.0))[1] == ()


def test_a_machine_that_handed_over_is_followed_by_the_next() -> None:
    fleet, _ = after(
        serving(),
        (fw.PollTimerFired(), 1.0),
        (fw.MachinePolled(2, "done", 42, 9, 9), 2.0),
        (fw.MachineReleased("machine-1"), 3.0),
    )
    fleet, commands = after(fleet, (fw.PollTimerFired(), 60.0), (fw.MachinesListed(), 61.0))
    assert calls(commands) == ["BringUp"]


def test_results_that_are_still_to_be_fetched_keep_the_machine() -> None:
    _, commands = after(
        serving(),
        (fw.PollTimerFired(), 1.0),
        (fw.MachinePolled(2, "handing over results", 0, 9, 9, more=True), 2.0),
        (fw.PollTimerFired(), 2.1),
    )
    assert calls(commands) == ["Poll"]


@pytest.mark.parametrize(
    ("policy", "event", "code"),
    [
        (replace(POLICY, paid=True), fw.BalanceRead(None), errors.FAILED_PRECHECKS),
        (replace(POLICY, paid=True), fw.BalanceRead(0.0), errors.FAILED_PRECHECKS),
        (replace(POLICY, until_wall_s=-1.0), None, errors.HANDED_OVER),
    ],
)
def test_no_machine_is_brought_up_against_a_limit(policy: FleetPolicy, event: fw.Event | None, code: int) -> None:
    happened = [(fw.ControllerStarted(policy), 0.0), *([(event, 0.0)] if event else []), (fw.MachinesListed(), 0.0)]
    fleet, commands = after(Fleet("run"), *happened)
    (end,) = commands
    assert isinstance(end, fw.EndController)
    assert (end.exit_code, fleet.phase) == (code, FleetPhase.ENDED)


@pytest.mark.parametrize(
    ("policy", "at_s"),
    [(replace(POLICY, until_wall_s=100.0), 101.0), (replace(POLICY, paid=True, units_max=2.0), 7300.0)],
)
def test_at_a_limit_the_run_saves_is_fetched_and_the_machine_given_back(policy: FleetPolicy, at_s: float) -> None:
    told = fw.MachinePolled(3, "running", step=50, durable_step=9, generation=1)
    fleet, commands = after(serving(policy), (fw.PollTimerFired(), at_s), (told, at_s), (told, at_s))
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(
        fleet, (fw.StopForwarded(), at_s), (fw.PollTimerFired(), at_s), (fw.MachinePolled(4, "done", 130, 51, 51), at_s)
    )
    assert commands[-1] == fw.ReleaseMachine(OURS)
    fleet, commands = after(fleet, (fw.MachineReleased(OURS.endpoint), at_s))
    if policy.paid:
        fleet, commands = after(fleet, (fw.BalanceRead(9.0, 1.0), at_s))
    assert (commands[-1].exit_code, commands[-1].state) == (errors.HANDED_OVER, "PENDING")


def test_refusals_are_waited_out_ever_longer_and_not_for_ever() -> None:
    policy = replace(POLICY, provision_failures_max=8)
    fleet, now_s, pauses = Fleet("run"), 0.0, []
    fleet, commands = after(fleet, (fw.ControllerStarted(policy), now_s), (fw.MachinesListed(), now_s))
    while calls(commands) == ["BringUp"]:
        fleet, commands = after(fleet, (fw.CallFailed("BringUp", "refused", "no T4 now"), now_s))
        if fleet.phase is FleetPhase.ENDED:
            break
        pauses.append(next_wakeup(fleet, Instant(now_s, 0)) - now_s)
        now_s += pauses[-1]
        fleet, commands = after(fleet, (fw.PollTimerFired(), now_s), (fw.MachinesListed(), now_s))
    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0]
    assert commands[-1].state == "FAILED_NO_RESOURCE"


@pytest.mark.parametrize("kind", ["login", "denied"])
def test_what_only_a_person_can_mend_ends_at_once(kind: str) -> None:
    _, commands = after(
        Fleet("run"),
        (fw.ControllerStarted(POLICY), 0.0),
        (fw.MachinesListed(), 0.0),
        (fw.CallFailed("BringUp", kind, "words", "hint"), 1.0),
    )
    (end,) = commands
    assert isinstance(end, fw.EndController)
    assert (end.exit_code, end.message, end.hint) == (errors.FAILED_PRECHECKS, "words", "hint")


def test_a_bring_up_of_unknown_outcome_is_asked_for_again_by_the_same_name() -> None:
    fleet, _ = after(
        Fleet("run"),
        (fw.ControllerStarted(POLICY), 0.0),
        (fw.MachinesListed((THEIRS,)), 0.0),
        (fw.CallFailed("BringUp", "unreachable", ""), 1.0),
    )
    fleet, commands = after(
        fleet, (fw.PollTimerFired(), 99.0), (fw.MachinesListed((THEIRS, Machine("", "appeared"))), 99.0)
    )
    assert commands[-1] == fw.CreateMachine("run-1", POLICY.request)
    (said,) = [each for each in commands if isinstance(each, fw.Report)]
    assert "appeared" in said.message
    assert "not touched" in said.hint


def test_a_controller_that_died_while_it_brought_one_up_takes_it_up_by_its_name() -> None:
    fleet, _ = after(Fleet("run"), (fw.ControllerStarted(POLICY), 0.0), (fw.MachinesListed((THEIRS,)), 0.0))
    fleet, commands = after(fleet, (fw.ControllerStarted(POLICY), 50.0), (LISTED, 51.0))
    assert (fleet.machine, calls(commands)) == (OURS, ["Prepare"])


def test_a_machine_of_ours_that_this_computer_forgot_is_adopted_by_its_record() -> None:
    _, commands = after(
        serving(), (fw.ControllerStarted(POLICY), 50.0), (fw.MachinesListed((Machine("", OURS.endpoint),)), 51.0)
    )
    assert commands == (fw.AdoptMachine(OURS),)


def test_the_first_wish_stops_and_the_second_leaves_the_machine_alone() -> None:
    fleet, commands = after(serving(), (fw.UserRequest("stop", "stopped by you"), 1.0))
    assert calls(commands) == ["Poll"], "the machine is asked before anything is concluded"
    fleet, commands = after(fleet, (fw.MachinePolled(2, "running", step=6, generation=1), 1.5))
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(fleet, (fw.UserRequest("leave"), 2.0))
    assert [type(each) for each in commands] == [fw.EndController]
    assert fleet.machine == OURS
    fleet, commands = after(fleet, (fw.ControllerStarted(POLICY), 60.0), (LISTED, 61.0))
    assert calls(commands) == ["Poll"]


def test_a_stop_while_a_machine_is_brought_up_gives_it_back_at_once() -> None:
    fleet, _ = after(
        Fleet("run"), (fw.ControllerStarted(POLICY), 0.0), (fw.MachinesListed(), 0.0), (fw.UserRequest("stop"), 1.0)
    )
    fleet, commands = after(fleet, (fw.MachineCreated(OURS), 20.0))
    assert commands[-1] == fw.ReleaseMachine(OURS)
    _, commands = after(fleet, (fw.MachineReleased(OURS.endpoint), 21.0))
    assert (commands[-1].exit_code, commands[-1].state) == (errors.INTERRUPTED, "CANCELLED")


@pytest.mark.parametrize("answer", [fw.BalanceRead(7.5, 1.0), fw.CallFailed("CheckBalance", "unreachable", "no route")])
def test_what_the_last_machine_cost_is_counted_before_the_end(answer: fw.Event) -> None:
    fleet, commands = after(
        serving(FleetPolicy(paid=True)), (fw.MachinePolled(2, "done", exit_code=0, step=9, durable_step=9), 5.0)
    )
    fleet, commands = after(fleet, (fw.MachineReleased(OURS.endpoint), 6.0))
    assert calls(commands) == ["CheckBalance"]
    fleet, commands = after(fleet, (answer, 7.0))
    assert isinstance(commands[-1], fw.EndController)
    assert commands[-1].state == "SUCCEEDED"
    assert fleet.units_used == (2.5 if isinstance(answer, fw.BalanceRead) else 0.0)


STOP = fw.UserRequest("stop", "stopped by Ctrl-C")


def begun_again(fleet: Fleet) -> Fleet:
    """The same fleet after its controller died and another began: the machine is listed."""
    return after(fleet, (fw.ControllerStarted(POLICY), 100.0), (LISTED, 100.0))[0]


def says(commands: tuple[fw.Command, ...]) -> str:
    return "\n".join(
        f"{each.message} {each.hint}" for each in commands if isinstance(each, fw.Report | fw.EndController)
    )


@pytest.mark.parametrize("unheard", [UNREACHABLE, fw.CallFailed("Poll", "home", "disk full"), fw.MachinePolled(-1, "")])
def test_a_stop_before_the_first_status_asks_the_machine_and_gives_nothing_back(unheard: fw.Event) -> None:
    """A computer that was off and is on again, without a network yet; one Ctrl-C."""
    fleet, commands = after(begun_again(serving()), (unheard, 101.0), (STOP, 101.0))
    seen, now_s = [*calls(commands)], 102.0
    for _ in range(20):
        fleet, commands = after(fleet, (unheard if calls(commands) == ["Poll"] else LISTED, now_s))
        seen += calls(commands)
        if not calls(commands):
            now_s = next_wakeup(fleet, Instant(now_s, 0))
            fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
            seen += calls(commands)
    assert "Poll" in seen
    assert "Release" not in seen
    fleet, commands = after(
        fleet.with_(call_in_flight=""),
        (fw.MachinePolled(900, "running", step=9326, durable_step=942, generation=1, files_waiting=7), now_s),
    )
    assert calls(commands) == ["PassOnStop"]
    fleet, commands = after(
        fleet, (fw.StopForwarded(1), now_s), (fw.MachinePolled(901, "done", 130, 9400, 9400, generation=1), now_s + 9)
    )
    assert commands[-1] == fw.ReleaseMachine(OURS)


@pytest.mark.parametrize("phase", [FleetPhase.STARTING, FleetPhase.PREPARING])
def test_a_stop_asks_a_machine_on_which_an_earlier_controller_may_have_started_the_agent(phase: FleetPhase) -> None:
    fleet = serving().with_(phase=phase, service=serving().service)
    fleet, commands = after(
        fleet.with_(call_in_flight="Prepare"), (fw.ControllerStarted(POLICY), 50.0), (STOP, 50.5), (LISTED, 51.0)
    )
    assert calls(commands) == ["Poll"]
    trained = after(fleet, (fw.MachinePolled(9, "running", step=800, durable_step=5, generation=1), 52.0))[1]
    assert calls(trained) == ["PassOnStop"]
    nothing = after(fleet, (fw.MachinePolled(-1, ""), 52.0))[1]
    assert calls(nothing) == ["Release"], "no agent was ever started there"


@pytest.mark.parametrize(("told", "call"), [
    (fw.MachinePolled(2, "preparing"), "Release"),
    (fw.MachinePolled(2, "running", files_waiting=10), ""),
    (fw.MachinePolled(2, ""), ""),
])  # fmt: skip
def test_a_machine_without_a_session_is_given_back_only_if_its_status_shows_that_nothing_waits(
    told: fw.MachinePolled, call: str
) -> None:
    fleet, commands = after(serving(), (STOP, 1.0), (told, 2.0))
    if calls(commands) == ["PassOnStop"]:
        fleet, commands = after(fleet, (fw.CallFailed("PassOnStop", "nothing", "no session serves yet"), 3.0))
    assert [each for each in calls(commands) if each == "Release"] == ([call] if call else [])


def test_a_stop_that_named_a_session_which_died_is_passed_on_to_the_next_one() -> None:
    first = fw.MachinePolled(2, "running", step=6, generation=1)
    fleet, _ = after(serving(), (STOP, 1.0), (first, 2.0), (fw.StopForwarded(1), 2.5))
    assert calls(after(fleet, (replace(first, heartbeat=3), 3.0))[1]) == []
    assert calls(after(fleet, (replace(first, heartbeat=3, generation=2), 3.0))[1]) == ["PassOnStop"]


def test_the_time_to_stop_counts_from_the_first_status_and_its_end_is_told() -> None:
    fleet, now_s = after(serving(), (STOP, 1.0))[0], 2.0
    fleet, _ = after(fleet, (UNREACHABLE, now_s))
    assert fleet.stop_s is None
    told = fw.MachinePolled(5, "running", step=7, durable_step=5, generation=1)
    fleet, _ = after(
        fleet, (LISTED, 3000.0), (told, 3001.0), (fw.StopForwarded(1), 3002.0), (replace(told, heartbeat=6), 3003.0)
    )
    fleet, commands = after(fleet, (fw.PollTimerFired(), 3001.0 + 1800.0))
    assert calls(commands) == ["Release"]
    assert "has not ended 30 min after the stop" in says(commands)
    assert "this computer holds step 5; what was not fetched is lost" in says(commands)


def test_a_leave_takes_the_stop_back_and_the_next_launch_goes_on_after_it() -> None:
    told = fw.MachinePolled(2, "running", step=6, generation=1)
    fleet, commands = after(
        serving(), (STOP, 1.0), (told, 2.0), (fw.StopForwarded(1), 2.5), (fw.UserRequest("leave"), 3.0)
    )
    assert "continues by itself" in says(commands)
    fleet = begun_again(fleet)
    assert (fleet.stop, fleet.stop_forwarded) == ("", False)
    done = fw.MachinePolled(9, "done", 143, 50, 50, generation=1)
    next_, commands = after(fleet, (done, 101.0))
    assert (next_.release_then, calls(commands)) == ("next", ["Release"])
    assert "the stop of an earlier launch" in says(commands)
    ended, _ = after(fleet, (replace(done, stop_requested=True), 101.0))
    assert ended.release_then == "end", "a person asked for it since"
    stopped, _ = after(serving(), (done, 101.0))
    assert stopped.release_then == "end", "this launch has asked for nothing"


def test_a_leave_names_the_call_that_is_in_flight() -> None:
    fleet, _ = after(Fleet("run"), (fw.ControllerStarted(POLICY, "colab"), 0.0), (fw.MachinesListed(), 0.0))
    _, commands = after(fleet, (fw.UserRequest("stop"), 1.0), (fw.UserRequest("leave"), 1.6))
    assert "a machine may still appear: run-1" in says(commands)
    fleet, _ = after(serving(), (fw.MachinePolled(2, "done", 0, 9, 9), 2.0))
    _, commands = after(fleet, (fw.UserRequest("leave"), 2.1))
    assert "machine-1 is being released" in says(commands)


def gone(fleet: Fleet, at_s: float) -> Fleet:
    fleet, _ = after(fleet.with_(call_in_flight="Poll"), (UNREACHABLE, at_s))
    for absent in range(3):
        fleet, _ = after(fleet, (fw.MachinesListed((THEIRS,)), at_s + absent))
    assert fleet.machine is None
    return fleet


SECOND = Machine("run-2", "machine-2", record="r2")


def second(at_s: float) -> Fleet:
    """The first machine was lost, and the second serves."""
    fleet = gone(serving().with_(call_in_flight="ListMachines"), at_s)
    fleet, _ = after(
        fleet, (fw.PollTimerFired(), at_s + 9), (fw.MachinesListed(), at_s + 10), (fw.MachineCreated(SECOND), at_s + 11), (fw.MachinePrepared(), at_s + 12),
        (fw.AgentStarted(), at_s + 13), (fw.MachinePolled(1, "running", step=9, durable_step=9), at_s + 14),
    )  # fmt: skip
    assert fleet.machine == SECOND
    return fleet


@pytest.mark.parametrize("listed", [OURS, Machine("", "machine-1"), Machine("run-7", "machine-7", record="r7")])
def test_a_lost_machine_that_is_listed_again_beside_its_successor_is_given_back(listed: Machine) -> None:
    fleet, commands = after(second(10.0), (fw.PollTimerFired(), 100.0))
    assert calls(commands) == ["ListMachines"], "one more listing some time after a loss"
    fleet, commands = after(fleet, (fw.MachinesListed((SECOND, listed, THEIRS)), 101.0))
    (release,) = [each for each in commands if isinstance(each, fw.ReleaseMachine)]
    assert release.machine.endpoint == listed.endpoint
    assert release.machine.record, "a machine is given back by its record"
    fleet, commands = after(fleet, (fw.CallFailed("Release", "unreachable", "no answer"), 102.0))
    assert "--on" in says(commands)
    fleet, commands = after(
        fleet.with_(lost_listing_s=103.0), (fw.PollTimerFired(), 103.0), (fw.MachinesListed((SECOND, listed)), 104.0)
    )
    fleet, commands = after(fleet, (fw.MachineReleased(listed.endpoint), 105.0), (fw.PollTimerFired(), 105.0))
    assert (fleet.machine, calls(commands)) == (SECOND, ["Poll"])
    assert [life.end for life in fleet.machine_history] == (
        ["given back"] if listed.endpoint == OURS.endpoint else ["lost"]
    )


def test_a_lost_machine_is_looked_for_as_long_as_it_could_cost_and_not_longer() -> None:
    fleet, now_s, looks = second(10.0), 100.0, []
    while now_s < 13.5 * 3600:
        fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
        if calls(commands) == ["ListMachines"]:
            looks.append(now_s)
            fleet, commands = after(fleet, (fw.MachinesListed((SECOND,)), now_s))
        fleet, _ = after(
            fleet, (fw.MachinePolled(int(now_s), "running", step=9, durable_step=9, saved=int(now_s)), now_s)
        )
        now_s += 30
    assert len(looks) >= 40
    assert max(later - earlier for earlier, later in pairwise(looks)) <= 960
    assert looks[-1] <= 12 * 3600 + 60


def test_before_the_end_a_lost_machine_is_looked_for_and_named_where_nobody_knows() -> None:
    fleet, _ = after(
        second(10.0), (fw.MachinePolled(2, "done", 0, 9, 9), 30.0), (fw.MachineReleased("machine-2"), 31.0)
    )
    assert fleet.call_in_flight == "ListMachines"
    found, commands = after(fleet, (fw.MachinesListed((OURS, THEIRS)), 32.0))
    assert calls(commands) == ["Release"]
    found, commands = after(found, (fw.MachineReleased("machine-1"), 33.0))
    assert (commands[-1].state, found.phase) == ("SUCCEEDED", FleetPhase.ENDED)
    none, commands = after(fleet, (fw.MachinesListed((THEIRS,)), 32.0))
    assert (commands[-1].state, none.phase) == ("SUCCEEDED", FleetPhase.ENDED)
    for at_s in (32.0, 40.0, 50.0):
        fleet, commands = after(fleet, (fw.CallFailed("ListMachines", "unreachable", "no route"), at_s))
        if at_s < 50:
            fleet, _ = after(fleet, (fw.PollTimerFired(), at_s + 5))
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
            "ListMachines": fw.CallFailed("ListMachines", "unreachable", "503"),
            "Poll": UNREACHABLE if len(seen) < 4 else fw.MachinePolled(len(seen), "running", step=len(seen), durable_step=len(seen)),
        }  # fmt: skip
        fleet, commands = after(fleet, (answer[made[0]] if made else fw.PollTimerFired(), now_s))
        now_s = now_s + 1 if calls(commands) else next_wakeup(fleet, Instant(now_s, 0))
    assert seen.count("Poll") > 5
    assert fleet.service.durable_step > 4


@pytest.mark.parametrize("call", ["BringUp", "ListMachines"])
def test_what_cannot_get_better_ends_where_no_machine_was_ever_there(call: str) -> None:
    fleet, commands = after(Fleet("run"), (fw.ControllerStarted(POLICY), 0.0))
    at_s = 0.0
    while not any(isinstance(each, fw.EndController) for each in commands):
        at_s += 100
        made = calls(commands)
        failed = fw.CallFailed(call, "failed", "there is no python3 on host", "install it")
        fleet, commands = after(
            fleet, (failed if made == [call] else fw.MachinesListed() if made else fw.PollTimerFired(), at_s)
        )
        assert at_s < 1000
    assert (commands[-1].exit_code, commands[-1].hint) == (errors.FAILED_PRECHECKS, "install it")


def test_a_login_that_ends_at_night_is_waited_for_and_said_once_and_after_half_an_hour_again() -> None:
    fleet, now_s, said = gone(serving().with_(call_in_flight="ListMachines"), 1.0), 10.0, []
    while now_s < 3600:
        fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
        failed = fw.CallFailed("ListMachines", "login", "Colab does not know this login", "run `colab usage`")
        fleet, commands = after(fleet, (failed, now_s + 1))
        said += [each for each in commands if isinstance(each, fw.Report)]
        now_s = next_wakeup(fleet, Instant(now_s + 1, 0))
    assert [each.hint for each in said] == ["run `colab usage`"] * 2
    assert "(for 30 min now)" in said[1].message
    fleet, commands = after(fleet, (fw.PollTimerFired(), now_s), (fw.MachinesListed((THEIRS,)), now_s))
    assert calls(commands) == ["BringUp"]


def test_each_kind_of_trouble_is_shown_the_first_time() -> None:
    fleet, _ = after(serving(), (fw.PollTimerFired(), 1.0), (UNREACHABLE, 2.0), (LISTED, 3.0))
    fleet, commands = after(fleet, (fw.CallFailed("Poll", "login", "a login is wanted", "log in"), 4.0))
    assert "a login is wanted log in" in says(commands)
    fleet, commands = after(
        fleet.with_(call_in_flight="Poll"), (fw.CallFailed("Poll", "home", "disk full", "make room"), 5.0)
    )
    assert "disk full make room" in says(commands)
    fleet, commands = after(
        fleet.with_(call_in_flight="Poll"), (fw.CallFailed("Poll", "home", "disk full", "make room"), 6.0)
    )
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
    units: float, policy: FleetPolicy, at_s: float, first: str
) -> None:
    fleet = serving(replace(policy, paid=True)).with_(units=units, units_per_hour=2.0)
    fleet, _ = after(fleet, (fw.MachinePolled(2, "running", step=9, durable_step=9), 1.0))
    fleet = gone(fleet.with_(call_in_flight="ListMachines"), at_s)
    now_s = next_wakeup(fleet, Instant(at_s + 2, 0))  # the last listing was then
    assert now_s <= at_s + 2.01
    fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
    assert calls(commands) == [first]
    if first == "ListMachines":
        assert calls(after(fleet, (fw.MachinesListed(), now_s + 1))[1]) == ["BringUp"]


@pytest.mark.parametrize("state", ["serving", "bringing up", "waiting", "in a call"])
def test_no_state_is_silent_for_longer_than_three_minutes(state: str) -> None:
    policy = replace(POLICY, paid=True)
    fleet = serving(policy).with_(units_per_hour=1.96)
    if state == "in a call":
        fleet, _ = after(fleet, (fw.PollTimerFired(), 1.0))
    elif state != "serving":
        fleet, _ = after(
            Fleet("run"),
            (fw.ControllerStarted(policy), 0.0),
            (fw.BalanceRead(5.0, 0.0), 0.0),
            (fw.MachinesListed(), 0.0),
        )
        if state == "waiting":
            fleet, _ = after(fleet, (fw.CallFailed("BringUp", "refused", "no T4"), 1.0))
    said, last_s = [], 0.0
    for at_s in range(0, 7200, 5):
        due = at_s >= next_word(fleet)
        fleet, commands = after(fleet, (fw.WaitEnded(), float(at_s)))
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
        assert "`logs`" in says(after(fleet, (fw.WaitEnded(), 1e6))[1])
        moved, _ = after(fleet, (fw.MachinePolled(99, "running", step=500, durable_step=9), 1e6))
        assert next_word(moved) > 1e6 + 100


def test_words_about_waiting_come_again_soon_after_the_last_status_and_rarely_while_statuses_come() -> None:
    fleet, said = serving(), list[int]()
    for at_s in range(0, 14400, 5):
        comes = at_s < 7200  # later each call hangs
        if comes and at_s % 60 == 0:
            fleet, _ = after(fleet, (fw.MachinePolled(at_s, "running", step=100), float(at_s)))
        fleet, commands = after(fleet, (fw.WaitEnded(), float(at_s)))
        if commands:
            said.append(at_s)
    shown = [at_s for at_s in said if at_s < 7200]
    assert 2 <= len(shown) <= 8
    later = [7140, *(at_s for at_s in said if at_s >= 7200), 14400]
    assert max(after_s - before_s for before_s, after_s in pairwise(later)) <= 180


def test_a_run_that_begins_at_an_earlier_step_again_with_nothing_safe_is_said() -> None:
    fleet, _ = after(serving(safe=None), (fw.MachinePolled(2, "running", step=2711, generation=1), 1.0))
    _, commands = after(fleet, (fw.MachinePolled(3, "running", step=583, generation=2), 2.0))
    assert "went back from step 2,711 to step 583 on its machine; nothing is safe yet" in says(commands)
    fleet, _ = after(
        serving(safe=500), (fw.MachinePolled(2, "running", step=2711, durable_step=500, generation=1), 1.0)
    )
    _, commands = after(fleet, (fw.MachinePolled(3, "running", step=500, durable_step=500, generation=2), 2.0))
    assert says(commands) == "", "it goes on from what is safe"


def test_the_cell_that_waits_on_the_machine_is_started_again_where_it_is_gone() -> None:
    fleet, commands = after(serving(), (fw.MachinePolled(2, "running", step=6, cell_attends=False), 1.0))
    assert commands[-1] == fw.StartAgent(OURS, again=True)
    assert calls(after(fleet, (fw.AgentStarted(), 2.0))[1]) == ["Poll"]
    for watched in (True, None):
        assert calls(after(serving(), (fw.MachinePolled(2, "running", step=6, cell_attends=watched), 1.0))[1]) == []


def test_a_machine_is_asked_every_few_seconds_until_its_first_step_is_seen_and_then_after_each_save() -> None:
    policy = replace(POLICY, poll_s=60.0)
    fleet, _ = after(
        Fleet("run"), (fw.ControllerStarted(policy), 0.0), (fw.MachinesListed(), 0.0), (fw.MachineCreated(OURS), 0.0), (fw.MachinePrepared(), 0.0),
        (fw.AgentStarted(), 0.0), (fw.MachinePolled(1, "running", files_waiting=2), 10.0),
    )  # fmt: skip
    assert next_wakeup(fleet, Instant(10.0, 0)) == 15.0
    fleet, _ = after(fleet, (fw.MachinePolled(2, "running", step=3), 20.0))
    assert next_wakeup(fleet, Instant(20.0, 0)) == 35.0, "nothing of it is safe yet"
    for told, pause_s in (
        (fw.MachinePolled(2, "running", step=6, durable_step=6), 60.0),
        (fw.MachinePolled(2, "running", step=6, durable_step=6, next_save_s=20.0), 23.0),
        (fw.MachinePolled(2, "running", step=6, durable_step=6, next_save_s=900.0), 60.0),
    ):
        fleet, _ = after(serving(policy), (told, 10.0))
        assert next_wakeup(fleet, Instant(10.0, 0)) == 10.0 + pause_s, told


def test_units_are_read_while_a_machine_serves_and_count_on_between() -> None:
    policy = replace(POLICY, paid=True)
    fleet, commands = after(serving(policy), (fw.PollTimerFired(), 61.0))
    assert calls(commands) == ["CheckBalance"]
    fleet, commands = after(fleet, (fw.BalanceRead(9.9, 1.96), 62.0))
    assert calls(commands) == ["ListMachines"]
    assert fleet.used(62.0 + 3600) == pytest.approx(0.1 + 1.96)
    fleet, commands = after(
        fleet,
        (LISTED, 63.0),
        (fw.MachinePolled(9, "running", step=9, durable_step=9), 64.0),
        (fw.PollTimerFired(), 70.0),
    )
    assert calls(commands) == ["Poll"], "not at every poll"


def test_the_last_lines_of_a_script_that_failed_are_shown() -> None:
    _, commands = after(serving(), (fw.MachinePolled(2, "done", 1, 9, 9, output="Traceback\nValueError: 7"), 1.0))
    assert "ValueError: 7" in says(commands)


def test_what_the_supervisor_there_warns_of_is_passed_on_once_whatever_its_numbers() -> None:
    def told(beat: int, words: str) -> fw.MachinePolled:
        return fw.MachinePolled(
            beat, "running", step=beat, durable_step=0, generation=1, warnings=("the loss is not a number", words)
        )

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
    fleet = serving().with_(phase=FleetPhase.PREPARING)
    _, commands = after(fleet, (fw.MachinePrepared(5, 1, ("a.py", "b.py", "c.py", "d.py")), 2.0))
    assert "the project was edited since this launch began (a.py, b.py, c.py, 1 more)" in says(commands)
    assert "Ctrl-C, then the same command again" in says(commands)


def test_a_machine_of_another_run_keeps_this_one_from_a_second_machine_for_the_same_account() -> None:
    other = Machine("night-3ab-1", "m-s-7", record="r")
    policy = replace(POLICY, paid=True)
    begun = ((fw.ControllerStarted(policy, "colab"), 0.0), (fw.BalanceRead(9.0, 1.0), 0.0))
    _, commands = after(Fleet("run"), *begun, (fw.MachinesListed((other, THEIRS)), 1.0))
    (end,) = commands
    assert isinstance(end, fw.EndController)
    assert end.exit_code == errors.FENCED
    assert "`launch --on colab --release m-s-7`" in end.hint
    assert calls(after(Fleet("run"), *begun, (fw.MachinesListed((THEIRS,)), 1.0))[1]) == ["BringUp"]
    free = ((fw.ControllerStarted(POLICY, "local"), 0.0), (fw.MachinesListed((other,)), 1.0))
    assert calls(after(Fleet("run"), *free)[1]) == ["BringUp"]


def test_the_end_says_why_in_the_sessions_own_words() -> None:
    told = fw.MachinePolled(2, "done", 1, 9, 9, cause="the script refused its arguments")
    _, commands = after(serving(), (told, 1.0), (fw.MachineReleased("machine-1"), 2.0))
    assert commands[-1].message == "the run ended with exit code 1: the script refused its arguments"


def test_a_machine_that_only_prepares_for_ten_minutes_is_restarted_and_then_given_back() -> None:
    """Also where it tells the last step of a session of before, and its beat goes on."""
    fleet, now_s, seen, words = serving(), 1.0, [], ""
    commands: tuple[fw.Command, ...] = ()
    while "Release" not in seen:
        made = calls(commands)
        seen += made
        told = fw.MachinePolled(
            int(now_s),
            fw.PREPARING,
            step=300,
            durable_step=100,
            status_line="waiting for 2 parts from your computer",
            generation=2,
        )
        answers = {
            "Poll": told,
            "ListMachines": LISTED,
            "Restart": fw.AgentRestarted(),
            "StartAgent": fw.AgentStarted(),
        }
        fleet, commands = after(
            fleet, (answers.get(made[0], fw.PollTimerFired()) if made else fw.PollTimerFired(), now_s)
        )
        words += says(commands)
        now_s = now_s + 1 if calls(commands) else max(now_s + 1, next_wakeup(fleet, Instant(now_s, 0)))
    assert seen.count("Restart") == 2
    assert "has been preparing for 10 min (waiting for 2 parts from your computer)" in words


def test_what_is_waited_for_is_named_with_the_machine_that_it_is_about() -> None:
    fleet = serving()
    stray = fleet.with_(call_in_flight="Release", stray=replace(OURS, endpoint="stray-1"))
    for waiting, words in (
        (fleet.with_(call_in_flight="Poll", status_line="step 5"), "a new step of machine-1 (its last status: step 5)"),
        (after(fleet, (fw.MachinePolled(2, "running", step=9, trained=True), 1.0))[0], "the results of machine-1"),
        (after(fleet, (fw.MachinePolled(2, fw.HANDING_OVER, step=9), 1.0))[0], "the results of machine-1"),
        (fleet.with_(call_in_flight="ListMachines"), "the list of machines"),
        (fleet.with_(phase=FleetPhase.PREPARING, call_in_flight="Prepare"), "code and checkpoint to reach machine-1"),
        (fleet.with_(phase=FleetPhase.RELEASING, call_in_flight="Release"), "machine-1 to be released"),
        (stray, "stray-1 to be released"),
        (
            fleet.with_(
                machine=None, service=None, name="run-2", phase=FleetPhase.BRINGING_UP, call_in_flight="BringUp"
            ),
            "the new machine run-2",
        ),
    ):
        _, commands = after(waiting, (fw.WaitEnded(), 1e6))
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
        fleet, commands = after(fleet, (fw.ControllerStarted(replace(POLICY, paid=True)), now_s))
    for listing in answers:
        if not calls(commands):
            now_s = next_wakeup(fleet, Instant(now_s, now_s))
            fleet, commands = after(fleet, (fw.PollTimerFired(), now_s))
            continue
        (call,) = calls(commands)
        assert call in {"Poll", "ListMachines", "CheckBalance", "Adopt"}
        beat += 1
        listed = {"none": (), "theirs": (THEIRS,), "ours": (OURS,), "no word": (replace(OURS, name=""),)}
        heard: dict[str, fw.Event] = {
            "Poll": fw.MachinePolled(beat, "running", step=beat, durable_step=beat),
            "ListMachines": fw.MachinesListed(listed[listing]) if listing in listed else fw.CallFailed(call, "unreachable", "503"),
            "CheckBalance": fw.BalanceRead(9.0, 1.0), "Adopt": fw.MachineAdopted(OURS),
        }  # fmt: skip
        now_s += 1
        fleet, commands = after(fleet, (heard[call], now_s))
        assert fleet.machine == OURS


@pytest.mark.parametrize("kind", ["gone", "unreachable"])
def test_listings_that_lack_a_machine_and_its_own_silence_together_are_enough_after_an_outage_too(kind: str) -> None:
    fleet, commands = after(serving(), (fw.ControllerStarted(POLICY), 1.0))
    for _ in range(4):  # nothing gets through: the pauses have grown
        fleet, commands = after(
            fleet.with_(call_in_flight="ListMachines"), (fw.CallFailed("ListMachines", "unreachable", "no route"), 2.0)
        )
    for at_s in range(100, 103):
        fleet, commands = after(fleet, (fw.MachinesListed((THEIRS,)), float(at_s)))
    assert calls(commands) == ["Poll"]
    unwritten, _ = after(fleet, (fw.CallFailed("Poll", "home", "disk full"), 103.0))
    assert unwritten.machine == OURS, "this computer's trouble is no answer of the machine"
    fleet, _ = after(fleet, (fw.CallFailed("Poll", kind, "no machine"), 103.0))
    assert fleet.machine is None
    assert next_wakeup(fleet, Instant(103.0, 103.0)) < 111
