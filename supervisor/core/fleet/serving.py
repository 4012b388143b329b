"""The fleet's machine from its bring-up to its end, and whether there is a next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import errors
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet import unsaved, waiting
from supervisor.core.fleet.shutdown import end, final, machine_released, next_lost_listing
from supervisor.core.fleet.state import GIVEN_BACK, LOST, Fleet, FleetPhase, MachineService
from supervisor.core.frozen import replace
from supervisor.core.humanize import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.fleet.provisioning import Machine

Outcome = tuple[Fleet, tuple[fw.Command, ...]]

AGAIN_S, AGAIN_S_MAX = 2.0, 300.0  # after a machine that brought nothing, four times as long for each more
ERRORS_BEFORE_RESTART = 6
RESTARTS_MAX = 2
DAY_S = 86400.0
STOP_WITHIN_S = 1800.0
BALANCE_SOON_S = 60.0  # after a bring-up: only then the rate is that of the new machine
UNITS_KNOWN_S, UNITS_ENOUGH = 1200.0, 1.0
PREPARING_S_MAX = 600.0  # the agent's own packages may be installed meanwhile
FILES_SHOWN_MAX = 3
POLL_SOON_S, POLL_UNSAFE_S, SAVED_S = 5.0, 15.0, 3.0


def about_ours(fleet: Fleet, found: Machine | None, now: Instant) -> Outcome:
    """Say what follows from a listing for the machine that serves."""
    machine = fleet.machine
    assert machine is not None
    if found is None:
        absent = fleet.absent + 1
        if absent < fleet.policy.listings:
            return fleet.with_(absent=absent, wake_s=now.mono_s + fleet.policy.listings_apart_s), ()
        if fleet.phase is FleetPhase.RELEASING:
            return released(fleet, fw.MachineReleased(machine.endpoint), now)
        if fleet.failed_polls == 0 and (fleet.phase is FleetPhase.SERVING or fleet.consecutive_errors == 0):
            # it answered last, or was not asked: the machine is asked before the listings are believed
            return fleet.with_(absent=absent).calling(fw.CallName.POLL_MACHINE), (fw.PollMachine(machine),)
        return machine_lost(fleet, now)
    fleet = fleet.with_(absent=0)
    if not found.name:
        return fleet.calling(fw.CallName.ADOPT_MACHINE), (fw.AdoptMachine(machine),)
    return go_on(fleet, now)


def there_again(fleet: Fleet, life: MachineService, found: Machine, now: Instant) -> Outcome:
    """A machine that was done with is listed: a listing may miss a living one for a while, or show one that was given back."""
    lost = life.end == LOST
    phase = FleetPhase.SERVING if lost else FleetPhase.RELEASING
    what = "was taken for lost" if lost else "was released"
    words = f"{life.machine.endpoint} {what} and is there: {'using it again' if lost else 'releasing it again'}"
    fleet = fleet.with_(
        machine=life.machine, service=life.reopened(), machine_history=fleet.history_without(life), phase=phase, release_then="next",
    )  # fmt: skip
    fleet, commands = about_ours(fleet.trusted(now.mono_s), found, now)
    return fleet, (fw.Report("warning", words), *commands)


def go_on(fleet: Fleet, now: Instant) -> Outcome:
    """Make the next call to the machine that is there."""
    machine = fleet.machine
    assert machine is not None
    if fleet.phase is FleetPhase.RELEASING:
        return fleet.calling(fw.CallName.RELEASE_MACHINE), (fw.ReleaseMachine(machine),)
    if fleet.stop and fleet.phase is not FleetPhase.SERVING:
        # what an earlier controller did with it may be unknown: the machine is asked
        return (
            release(fleet, "end")
            if fleet.fresh
            else (fleet.calling(fw.CallName.POLL_MACHINE), (fw.PollMachine(machine),))
        )
    if fleet.phase in {FleetPhase.BRINGING_UP, FleetPhase.PREPARING}:
        return fleet.with_(phase=FleetPhase.PREPARING).calling(fw.CallName.PREPARE_MACHINE), (
            fw.PrepareMachine(machine),
        )
    if fleet.phase is FleetPhase.STARTING:
        return fleet.calling(fw.CallName.START_AGENT), (fw.StartAgent(machine),)
    if fleet.failed_polls >= ERRORS_BEFORE_RESTART or fleet.stale:
        return restart(fleet, machine, now)
    return fleet.calling(fw.CallName.POLL_MACHINE), (fw.PollMachine(machine),)


def restart(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    """The machine is there and does not answer, or what runs on it gives no sign."""
    if fleet.restarts >= RESTARTS_MAX:
        fleet, commands = release(fleet, "next")
        words = f"{machine.endpoint} does not continue after {RESTARTS_MAX} restarts: releasing it"
        return fleet, (fw.Report("warning", words), *commands)
    words = f"gives no sign of life for {duration(now.mono_s - fleet.heartbeat_s)}"
    if fleet.preparing_s is not None:
        words = f"has been preparing for {duration(now.mono_s - fleet.preparing_s)} ({fleet.status_line})"
    words = f"{machine.endpoint} {words}: restarting what runs there"
    fleet = fleet.with_(restarts=fleet.restarts + 1, consecutive_errors=0, preparing_s=None).trusted(now.mono_s)
    return fleet.calling(fw.CallName.RESTART_AGENT), (fw.Report("warning", words), fw.RestartAgent(machine))


def next_machine(fleet: Fleet, now: Instant) -> Outcome:
    """Bring the next machine up, if nothing speaks against it."""
    against = against_more(fleet, now)
    if against is not None:
        return end(fleet, *against)
    policy = fleet.policy
    today = [life for life in fleet.machine_history if life.began_wall_s > now.wall_s - DAY_S]
    if len(today) >= policy.machines_per_day_max:
        wait_s = max(1.0, today[-policy.machines_per_day_max].began_wall_s + DAY_S - now.wall_s)
        words = f"{len(today)} machines were brought up within a day: the next in {duration(wait_s)}"
        return fleet.with_(phase=FleetPhase.WAITING, wake_s=now.mono_s + wait_s), (fw.Report("warning", words),)
    name = fleet.name or f"{fleet.prefix}-{fleet.number + 1}"
    number = int(name.rpartition("-")[2])
    fleet = fleet.with_(phase=FleetPhase.BRINGING_UP, name=name, number=number, asked_wall_s=now.wall_s)
    return fleet.calling(fw.CallName.CREATE_MACHINE), (fw.CreateMachine(name, policy.request),)


def against_more(fleet: Fleet, now: Instant) -> tuple[int, str, str, str] | None:
    """Return exit code, state, words and hint if no further machine may be brought up."""
    policy, again = fleet.policy, "launch again to go on"
    words = ""
    if fleet.stop:
        states = {errors.INTERRUPTED: "CANCELLED", errors.NO_PROGRESS: "FAILED"}
        hint = unsaved.HINT if fleet.stop_code == errors.NO_PROGRESS else again
        return fleet.stop_code, states.get(fleet.stop_code, "PENDING"), fleet.stop, hint
    if policy.until_wall_s is not None and now.wall_s >= policy.until_wall_s:
        words = "the time set with --until is over"
    elif len(fleet.machine_history) - fleet.earlier_machines >= policy.machines_max:
        words = f"{policy.machines_max} machines have served: --max-machines"
    elif policy.units_max is not None and fleet.units_used >= policy.units_max:
        words = f"{fleet.units_used:.2f} units are used: --max-units"
    elif policy.paid and not (fleet.units or 0) > 0:
        have = "cannot be told" if fleet.units is None else f"is {fleet.units:.2f}"
        hint = "buy units, or train in the notebook: unattended machines are for a positive balance"
        return errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", f"the account's balance of compute units {have}", hint
    return (errors.HANDED_OVER, "PENDING", words, again) if words else None


def machine_created(fleet: Fleet, event: fw.MachineCreated, now: Instant) -> Outcome:
    """A machine was made: its life with us begins."""
    return _begin(fleet.with_(fresh=True, stop_before=False), event.machine, now)


def machine_adopted(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    """A machine of one of our names is listed, which an earlier call made; what it did since is not known."""
    return _begin(fleet, machine, now)


def _begin(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    life = MachineService(
        machine,
        now.wall_s,
        durable_from=fleet.durable_step,
        durable_step=fleet.durable_step,
        asked_wall_s=fleet.asked_wall_s,
    )
    fleet = fleet.with_(
        call_in_flight="", machine=machine, phase=FleetPhase.PREPARING, provision_failures=0, consecutive_errors=0, absent=0, restarts=0, service=life, heartbeat=-1,
        stop_generation=None, empty=False, asked_wall_s=None, unsaved=None, balance_s=now.mono_s + BALANCE_SOON_S, status_line="", fetching=False,
    )  # fmt: skip
    fleet, commands = go_on(fleet.trusted(now.mono_s), now)
    return fleet, (fw.Report("info", f"{machine.name} is up: {machine.endpoint}"), *commands)


def named(files: Sequence[str]) -> str:
    """Return the first of some files' names."""
    more = len(files) - FILES_SHOWN_MAX
    return ", ".join([*files[:FILES_SHOWN_MAX], *([f"{more} more"] if more > 0 else [])])


def adopted(fleet: Fleet, event: fw.MachineAdopted, now: Instant) -> Outcome:
    """It can be used again."""
    return go_on(fleet.with_(call_in_flight="", machine=event.machine, consecutive_errors=0), now)


def machine_prepared(fleet: Fleet, event: fw.MachinePrepared, now: Instant) -> Outcome:
    """It has all that it needs."""
    what = "code" if event.step is None else "code and checkpoint"
    begin = "begins at its first step" if event.step is None else f"goes on from step {event.step:,}"
    words = f"{what} sent ({event.sent_bytes / 1e6:,.1f} MB): the run {begin}"
    life = fleet.service and replace(fleet.service, prepared_wall_s=now.wall_s)
    fleet, commands = go_on(
        fleet.with_(call_in_flight="", phase=FleetPhase.STARTING, consecutive_errors=0, service=life), now
    )
    told: list[fw.Command] = [fw.Report("info", words)]
    if event.changed:
        words = f"the project was edited since this launch began ({named(event.changed)}): the machine gets it as it was then"
        told.append(fw.Report("warning", words, "to send it as it is now: Ctrl-C, then the same command again"))
    return fleet, (*told, *commands)


def agent_started(fleet: Fleet, _event: fw.AgentStarted, now: Instant) -> Outcome:
    """Its agent runs."""
    life = fleet.service
    if life is not None and life.agent_wall_s is None:
        life = replace(life, agent_wall_s=now.wall_s)
    serving = fleet.with_(
        call_in_flight="",
        phase=FleetPhase.SERVING,
        fresh=False,
        consecutive_errors=0,
        heartbeat_s=now.mono_s,
        service=life,
    )
    return go_on(serving, now)


def machine_polled(fleet: Fleet, event: fw.MachinePolled, now: Instant) -> Outcome:
    """See how far it is; ask it to stop, or look after it, where that is due."""
    moved = event.heartbeat != fleet.heartbeat
    life = fleet.service and replace(
        fleet.service.reached(event.step, event.durable_step, now.wall_s), heard_wall_s=now.wall_s
    )
    said = _went_back(fleet, event)
    fleet = waiting.errors_over(fleet, now).with_(
        call_in_flight="", consecutive_errors=0, absent=0, failed_polls=0, stale=False, service=life, heartbeat=event.heartbeat, durable_step=event.durable_step if event.durable_step is not None else fleet.durable_step,
        heartbeat_s=now.mono_s if moved else fleet.heartbeat_s, restarts=0 if moved and _further(fleet, event) else fleet.restarts,
        preparing_s=None if event.phase != fw.PREPARING else now.mono_s if fleet.preparing_s is None else fleet.preparing_s,
        status_line=event.status_line, fetching=event.trained or event.phase == fw.HANDING_OVER, cause=event.cause, heard_s=now.mono_s, empty=event.phase != "" and event.generation is None and not event.files_waiting,
    )  # fmt: skip
    fleet, warned = waiting.warnings(fleet, event, now)
    fleet, lacking = unsaved.seen(fleet, event, now)
    fleet, commands = _after_poll(_stop_heard(fleet, event, now), event, now)
    return fleet, (*said, *warned, *lacking, *commands)


def _further(fleet: Fleet, event: fw.MachinePolled) -> bool:
    """Say whether the run is further than it was: only then what was restarted goes on."""
    known = fleet.service
    if known is None or event.step is None:
        return False
    return known.step is None or event.step > known.step or (event.durable_step or 0) > (known.durable_step or 0)


def _stop_heard(fleet: Fleet, event: fw.MachinePolled, now: Instant) -> Fleet:
    """Return the fleet with what the status means for a stop that was asked for: from now on it has so long."""
    if not fleet.stop:
        return fleet
    passed_on = fleet.stop_forwarded and (event.generation is None or event.generation == fleet.stop_generation)
    stop_s = fleet.stop_s if fleet.stop_read else now.mono_s + STOP_WITHIN_S
    return fleet.with_(stop_read=True, stop_s=stop_s, stop_forwarded=passed_on)


def _after_poll(fleet: Fleet, event: fw.MachinePolled, now: Instant) -> Outcome:
    machine = fleet.machine
    assert machine is not None
    if event.phase == fw.DONE and event.exit_code is not None and not event.more:
        return end_of_service(fleet.with_(phase=FleetPhase.SERVING), event.exit_code, event)
    if fleet.phase is not FleetPhase.SERVING:
        if event.phase == "":  # no agent was ever started there
            return release(fleet, "end") if fleet.stop else go_on(fleet, now)
        fleet = fleet.with_(phase=FleetPhase.SERVING)
    return _while_it_runs(fleet, machine, event, now)


def _while_it_runs(fleet: Fleet, machine: Machine, event: fw.MachinePolled, now: Instant) -> Outcome:
    if not fleet.stop and (limit := limit_reached(fleet, now)):
        return request_stop(fleet, limit, now, code=errors.HANDED_OVER)
    if not fleet.stop and (words := unsaved.given_up(fleet, now)):
        return request_stop(fleet, words, now, code=errors.NO_PROGRESS)
    if fleet.stop and not fleet.stop_forwarded and event.phase:
        return fleet.calling(fw.CallName.FORWARD_STOP), (fw.ForwardStop(),)
    endless = fleet.preparing_s is not None and now.mono_s - fleet.preparing_s > PREPARING_S_MAX
    if endless or now.mono_s - fleet.heartbeat_s > fleet.policy.silence_s:
        return list_machines(fleet.with_(stale=True))
    if event.cell_attends is False:
        said = fw.Report(
            "info",
            f"the notebook cell that kept {machine.endpoint} busy has ended: starting another, as idle machines are taken away",
        )
        return fleet.calling(fw.CallName.START_AGENT), (said, fw.StartAgent(machine, again=True))
    return fleet.with_(wake_s=now.mono_s + _pause_s(fleet, event)), ()


def _pause_s(fleet: Fleet, event: fw.MachinePolled) -> float:
    """Return when to ask again: soon until the machine's first step, then soon after each save; loss is bounded by that."""
    most_s = fleet.policy.poll_s
    if event.more:
        return 0.0
    if fleet.service is None or fleet.service.step is None or fleet.stop:
        return min(most_s, POLL_SOON_S)
    if event.next_save_s is not None:
        return min(most_s, max(POLL_SOON_S, event.next_save_s + SAVED_S))
    return min(most_s, POLL_UNSAFE_S) if fleet.service.durable_step == fleet.service.durable_from else most_s


def _went_back(fleet: Fleet, event: fw.MachinePolled) -> tuple[fw.Command, ...]:
    """Say that a machine's run began at an earlier step again, while nothing of it is safe."""
    before = None if fleet.service is None else fleet.service.step
    if event.step is None or before is None or event.step >= before or event.generation is None:
        return ()
    held = "nothing is safe yet" if fleet.durable_step is None else f"step {fleet.durable_step:,} is safe"
    if fleet.durable_step is not None and event.step >= fleet.durable_step:
        return ()
    words = f"the run went back from step {before:,} to step {event.step:,} on its machine; {held}"
    return (fw.Report("warning", words, "see why: `logs`"),)


def agent_restarted(fleet: Fleet, event: fw.AgentRestarted, now: Instant) -> Outcome:
    """What ran there has ended: its agent is started again."""
    if event.message:
        fleet, commands = go_on(fleet.with_(call_in_flight="", phase=FleetPhase.STARTING, heartbeat_s=now.mono_s), now)
        return fleet, (fw.Report("warning", f"the agent's last line: {event.message}"), *commands)
    return go_on(fleet.with_(call_in_flight="", phase=FleetPhase.STARTING, heartbeat_s=now.mono_s), now)


def stop_forwarded(fleet: Fleet, event: fw.StopForwarded, now: Instant) -> Outcome:
    """It will hear of the wish."""
    return fleet.with_(call_in_flight="", stop_forwarded=True, stop_generation=event.generation, wake_s=now.mono_s), ()


def end_of_service(fleet: Fleet, code: int, event: fw.MachinePolled) -> Outcome:
    """The run's session on the machine ended with this exit code, and home holds all of it."""
    if code == errors.HANDED_OVER and not fleet.stop:
        return release(fleet.with_(exit_code=code), "next")
    if (
        code in {errors.INTERRUPTED, errors.TERMINATED}
        and fleet.stop_before
        and not (fleet.stop or event.stop_requested)
    ):
        fleet, commands = release(fleet, "next")
        words = "the stop of an earlier launch had reached the machine, so the run saved and ended there; it goes on"
        return fleet, (fw.Report("warning", words), *commands)
    if event.output and code not in {0, errors.INTERRUPTED, errors.TERMINATED}:
        fleet, commands = release(fleet.with_(exit_code=fleet.stop_code if fleet.stop else code), "end")
        return fleet, (fw.Report("error", f"the last lines of its output:\n{event.output}"), *commands)
    return release(fleet.with_(exit_code=fleet.stop_code if fleet.stop and code != 0 else code), "end")


def release(fleet: Fleet, then: str) -> Outcome:
    """Give the machine back, to go on with the ``next``, or to ``end``."""
    machine = fleet.machine
    assert machine is not None
    fleet = fleet.with_(phase=FleetPhase.RELEASING, release_then=then, consecutive_errors=0, wake_s=None)
    return fleet.calling(fw.CallName.RELEASE_MACHINE), (fw.ReleaseMachine(machine),)


def give_up_stopping(fleet: Fleet) -> Outcome:
    """The run was asked to stop and had its time for it: give the machine back, and say what is left there."""
    assert fleet.machine is not None
    here = "nothing" if fleet.durable_step is None else f"step {fleet.durable_step:,}"
    words = f"the run has not ended {duration(STOP_WITHIN_S)} after the stop: releasing {fleet.machine.endpoint}"
    fleet, commands = release(fleet, "end")
    return fleet, (fw.Report("error", words, f"this computer holds {here}; what was not fetched is lost"), *commands)


def released(fleet: Fleet, event: fw.MachineReleased, now: Instant) -> Outcome:
    """It is off the list."""
    if fleet.stray is not None and fleet.stray.endpoint == event.endpoint:
        fleet, told = machine_released(fleet, event.endpoint)
        if fleet.closing is not None:
            fleet, commands = end(fleet, *fleet.closing)
            return fleet, (told, *commands)
        return fleet.with_(wake_s=now.mono_s), (told,)
    fleet = fleet.with_(call_in_flight="")
    if fleet.machine is None or fleet.machine.endpoint != event.endpoint:
        return list_machines(fleet)
    fleet = fleet.closed(GIVEN_BACK, now.wall_s)
    said = fw.Report("info", f"{event.endpoint} is released")
    if fleet.release_then == "next" and not fleet.stop:
        fleet, commands = pause_before_next(fleet, now)
        return fleet, (said, *commands)
    if fleet.policy.paid:  # what the last machine cost is seen only now
        return fleet.calling(fw.CallName.CHECK_BALANCE), (said, fw.CheckBalance())
    fleet, commands = final(fleet)
    return fleet, (said, *commands)


def machine_lost(fleet: Fleet, now: Instant) -> Outcome:
    """Enough listings in a row do not have it."""
    assert fleet.machine is not None
    endpoint, life = fleet.machine.endpoint, fleet.service
    lived_s = now.wall_s - life.began_wall_s if life else 0.0
    safe = "nothing safe" if fleet.durable_step is None else f"step {fleet.durable_step:,} safe"
    words = f"{endpoint} is gone after {duration(lived_s)}: {safe} on this computer"
    fleet = next_lost_listing(fleet.with_(lost_listings=0), now)
    fleet, commands = pause_before_next(fleet.closed(LOST, now.wall_s), now)
    return fleet, (fw.Report("warning", words), *commands)


def pause_before_next(fleet: Fleet, now: Instant) -> Outcome:
    """Wait a moment, longer after each machine that brought nothing; give up after some."""
    last = fleet.machine_history[-1]
    fruitless = 0 if last.durable_step != last.durable_from else fleet.machines_without_progress + 1
    fleet = fleet.with_(machines_without_progress=fruitless, phase=FleetPhase.WAITING, name="")
    if fruitless >= fleet.policy.machines_without_progress_max:
        words = f"{fruitless} machines in a row: no new checkpoint reached this computer"
        hint = "see what each did: `logs`"
        return end(fleet, errors.NO_PROGRESS, "FAILED", words, hint)
    if fleet.stop:
        return final(fleet)
    pause_s = min(AGAIN_S * 4**fruitless, AGAIN_S_MAX) if fruitless else 0.0
    return fleet.with_(wake_s=now.mono_s + pause_s), ()


def request_stop(fleet: Fleet, words: str, now: Instant, code: int = errors.INTERRUPTED) -> Outcome:
    """Have the run save and end, then fetch and give back; without a machine end at once."""
    if fleet.stop:
        return fleet, ()
    fleet = fleet.with_(stop=words, stop_code=code, stop_forwarded=False, stop_read=False, stop_s=None)
    if fleet.machine is None and not fleet.call_in_flight:
        return end(fleet, code, "CANCELLED" if code == errors.INTERRUPTED else "PENDING", words)
    said = fw.Report(
        "warning",
        words,
        "the run saves, its results are fetched, the machine is released; Ctrl-C from now on leaves it running instead",
    )
    if fleet.call_in_flight:
        return fleet, (said,)
    fleet, commands = go_on(fleet.with_(wake_s=None), now)
    return fleet, (said, *commands)


def limit_reached(fleet: Fleet, now: Instant) -> str:
    """Return the limit of a person that is reached, in words; "" for none."""
    policy = fleet.policy
    if policy.until_wall_s is not None and now.wall_s >= policy.until_wall_s:
        return "the time set with --until is over"
    used = fleet.used(now.wall_s)
    if policy.units_max is not None and fleet.service is not None and used >= policy.units_max:
        return f"about {used:.2f} units are used: --max-units"
    return ""


def list_machines(fleet: Fleet, now: Instant | None = None) -> Outcome:
    """See what is there; before a machine is brought up also what the account has, where that was not read lately."""
    fleet = fleet.with_(wake_s=None, look=False)
    if fleet.policy.paid and fleet.machine is None and not (now is not None and _has_units(fleet, now)):
        return fleet.calling(fw.CallName.CHECK_BALANCE), (fw.CheckBalance(),)
    return fleet.calling(fw.CallName.LIST_MACHINES), (fw.ListMachines(),)


def _has_units(fleet: Fleet, now: Instant) -> bool:
    """Return True if the last balance is recent and large enough. The next machine then starts without reading it again."""
    since_s = now.wall_s - fleet.units_wall_s
    if fleet.units is None or fleet.policy.units_max is not None or not 0 <= since_s < UNITS_KNOWN_S:
        return False
    return fleet.units - (fleet.units_per_hour or 0.0) * since_s / 3600 > UNITS_ENOUGH
