"""The fleet's machine from its bring-up to its end, and whether there is a next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import errors
from supervisor.core import fleet_unsaved as unsaved
from supervisor.core import fleet_waiting as waiting
from supervisor.core import fleet_words as fw
from supervisor.core.fleet_ending import end, final, given_back, next_lost_look
from supervisor.core.fleet_state import GIVEN_BACK, LOST, Fleet, Life, Phase
from supervisor.core.spoken import duration
from supervisor.core.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.provisioning import Machine

Outcome = tuple[Fleet, tuple[fw.Command, ...]]

AGAIN_S, AGAIN_S_MAX = 2.0, 300.0  # after a machine that brought nothing, four times as long for each more
TROUBLES_BEFORE_RESTART = 6
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
        if fleet.phase is Phase.RELEASING:
            return released(fleet, fw.Released(machine.endpoint), now)
        if fleet.deaf == 0 and (fleet.phase is Phase.SERVING or fleet.troubles == 0):
            # it answered last, or was not asked: the machine is asked before the listings are believed
            return fleet.with_(absent=absent).calling("Poll"), (fw.Poll(machine),)
        return lost(fleet, now)
    fleet = fleet.with_(absent=0)
    if not found.name:
        return fleet.calling("Adopt"), (fw.Adopt(machine),)
    return go_on(fleet, now)


def there_again(fleet: Fleet, life: Life, found: Machine, now: Instant) -> Outcome:
    """A machine that was done with is listed: a listing may miss a living one for a while, or show one that was given back."""
    lost = life.end == LOST
    phase = Phase.SERVING if lost else Phase.RELEASING
    what = "was taken for lost" if lost else "was given back"
    words = f"{life.machine.endpoint} {what} and is there: {'going on with it' if lost else 'giving it back again'}"
    fleet = fleet.with_(
        machine=life.machine, life=life.reopened(), lives=fleet.lives_without(life), phase=phase, release_then="next",
    )  # fmt: skip
    fleet, commands = about_ours(fleet.trusted(now.mono_s), found, now)
    return fleet, (fw.Say("warning", words), *commands)


def go_on(fleet: Fleet, now: Instant) -> Outcome:
    """Make the next call to the machine that is there."""
    machine = fleet.machine
    assert machine is not None
    if fleet.phase is Phase.RELEASING:
        return fleet.calling("Release"), (fw.Release(machine),)
    if fleet.stop and fleet.phase is not Phase.SERVING:
        # what an earlier controller did with it may be unknown: the machine is asked
        return release(fleet, "end") if fleet.fresh else (fleet.calling("Poll"), (fw.Poll(machine),))
    if fleet.phase in {Phase.BRINGING_UP, Phase.PREPARING}:
        return fleet.with_(phase=Phase.PREPARING).calling("Prepare"), (fw.Prepare(machine),)
    if fleet.phase is Phase.STARTING:
        return fleet.calling("StartAgent"), (fw.StartAgent(machine),)
    if fleet.deaf >= TROUBLES_BEFORE_RESTART or fleet.stale:
        return restart(fleet, machine, now)
    return fleet.calling("Poll"), (fw.Poll(machine),)


def restart(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    """The machine is there and does not answer, or what runs on it gives no sign."""
    if fleet.restarts >= RESTARTS_MAX:
        fleet, commands = release(fleet, "next")
        words = f"{machine.endpoint} does not go on after {RESTARTS_MAX} restarts: giving it back"
        return fleet, (fw.Say("warning", words), *commands)
    words = f"gives no sign of life for {duration(now.mono_s - fleet.beat_s)}"
    if fleet.preparing_s is not None:
        words = f"has been preparing for {duration(now.mono_s - fleet.preparing_s)} ({fleet.line})"
    words = f"{machine.endpoint} {words}: restarting what runs there"
    fleet = fleet.with_(restarts=fleet.restarts + 1, troubles=0, preparing_s=None).trusted(now.mono_s)
    return fleet.calling("Restart"), (fw.Say("warning", words), fw.Restart(machine))


def next_machine(fleet: Fleet, now: Instant) -> Outcome:
    """Bring the next machine up, if nothing speaks against it."""
    against = against_more(fleet, now)
    if against is not None:
        return end(fleet, *against)
    policy = fleet.policy
    today = [life for life in fleet.lives if life.began_wall_s > now.wall_s - DAY_S]
    if len(today) >= policy.a_day:
        wait_s = max(1.0, today[-policy.a_day].began_wall_s + DAY_S - now.wall_s)
        words = f"{len(today)} machines were brought up within a day: the next in {duration(wait_s)}"
        return fleet.with_(phase=Phase.WAITING, wake_s=now.mono_s + wait_s), (fw.Say("warning", words),)
    name = fleet.name or f"{fleet.prefix}-{fleet.number + 1}"
    number = int(name.rpartition("-")[2])
    fleet = fleet.with_(phase=Phase.BRINGING_UP, name=name, number=number, asked_wall_s=now.wall_s)
    return fleet.calling("BringUp"), (fw.BringUp(name, policy.wanted),)


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
    elif len(fleet.lives) - fleet.lives_before >= policy.machines_max:
        words = f"{policy.machines_max} machines have served: --max-machines"
    elif policy.units_max is not None and fleet.units_used >= policy.units_max:
        words = f"{fleet.units_used:.2f} units are used: --max-units"
    elif policy.paid and not (fleet.units or 0) > 0:
        have = "cannot be told" if fleet.units is None else f"is {fleet.units:.2f}"
        hint = "buy units, or train in the notebook: unattended machines are for a positive balance"
        return errors.FAILED_PRECHECKS, "FAILED_PRECHECKS", f"the account's balance of compute units {have}", hint
    return (errors.HANDED_OVER, "PENDING", words, again) if words else None


def brought_up(fleet: Fleet, event: fw.BroughtUp, now: Instant) -> Outcome:
    """A machine was made: its life with us begins."""
    return _begin(fleet.with_(fresh=True, stop_before=False), event.machine, now)


def taken_up(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    """A machine of one of our names is listed, which an earlier call made; what it did since is not known."""
    return _begin(fleet, machine, now)


def _begin(fleet: Fleet, machine: Machine, now: Instant) -> Outcome:
    life = Life(machine, now.wall_s, safe_from=fleet.safe, safe=fleet.safe, asked_wall_s=fleet.asked_wall_s)
    fleet = fleet.with_(
        doing="", machine=machine, phase=Phase.PREPARING, refusals=0, troubles=0, absent=0, restarts=0, life=life, beat=-1,
        stop_epoch=None, empty=False, asked_wall_s=None, unsaved=None, balance_s=now.mono_s + BALANCE_SOON_S, line="", fetching=False,
    )  # fmt: skip
    fleet, commands = go_on(fleet.trusted(now.mono_s), now)
    return fleet, (fw.Say("info", f"{machine.name} is up: {machine.endpoint}"), *commands)


def named(files: Sequence[str]) -> str:
    """Return the first of some files' names."""
    more = len(files) - FILES_SHOWN_MAX
    return ", ".join([*files[:FILES_SHOWN_MAX], *([f"{more} more"] if more > 0 else [])])


def adopted(fleet: Fleet, event: fw.Adopted, now: Instant) -> Outcome:
    """It can be used again."""
    return go_on(fleet.with_(doing="", machine=event.machine, troubles=0), now)


def prepared(fleet: Fleet, event: fw.Prepared, now: Instant) -> Outcome:
    """It has all that it needs."""
    what = "code" if event.step is None else "code and checkpoint"
    begin = "begins at its first step" if event.step is None else f"goes on from step {event.step:,}"
    words = f"{what} sent ({event.sent_bytes / 1e6:,.1f} MB): the run {begin}"
    life = fleet.life and replace(fleet.life, prepared_wall_s=now.wall_s)
    fleet, commands = go_on(fleet.with_(doing="", phase=Phase.STARTING, troubles=0, life=life), now)
    told: list[fw.Command] = [fw.Say("info", words)]
    if event.changed:
        words = f"the project was edited since this launch began ({named(event.changed)}): the machine gets it as it was then"
        told.append(fw.Say("warning", words, "to send it as it is now: Ctrl-C, then the same command again"))
    return fleet, (*told, *commands)


def agent_started(fleet: Fleet, _event: fw.AgentStarted, now: Instant) -> Outcome:
    """Its agent runs."""
    life = fleet.life
    if life is not None and life.agent_wall_s is None:
        life = replace(life, agent_wall_s=now.wall_s)
    serving = fleet.with_(doing="", phase=Phase.SERVING, fresh=False, troubles=0, beat_s=now.mono_s, life=life)
    return go_on(serving, now)


def polled(fleet: Fleet, event: fw.Polled, now: Instant) -> Outcome:
    """See how far it is; ask it to stop, or look after it, where that is due."""
    moved = event.beat != fleet.beat
    life = fleet.life and replace(fleet.life.reached(event.step, event.safe, now.wall_s), heard_wall_s=now.wall_s)
    said = _went_back(fleet, event)
    fleet = waiting.calmed(fleet, now).with_(
        doing="", troubles=0, absent=0, deaf=0, stale=False, life=life, beat=event.beat, safe=event.safe if event.safe is not None else fleet.safe,
        beat_s=now.mono_s if moved else fleet.beat_s, restarts=0 if moved and _further(fleet, event) else fleet.restarts,
        preparing_s=None if event.phase != fw.PREPARING else now.mono_s if fleet.preparing_s is None else fleet.preparing_s,
        line=event.line, fetching=event.trained or event.phase == fw.HANDING_OVER, cause=event.cause, heard_s=now.mono_s, empty=event.phase != "" and event.epoch is None and not event.waiting,
    )  # fmt: skip
    fleet, warned = waiting.warnings(fleet, event, now)
    fleet, lacking = unsaved.seen(fleet, event, now)
    fleet, commands = _after_poll(_stop_heard(fleet, event, now), event, now)
    return fleet, (*said, *warned, *lacking, *commands)


def _further(fleet: Fleet, event: fw.Polled) -> bool:
    """Say whether the run is further than it was: only then what was restarted goes on."""
    known = fleet.life
    if known is None or event.step is None:
        return False
    return known.step is None or event.step > known.step or (event.safe or 0) > (known.safe or 0)


def _stop_heard(fleet: Fleet, event: fw.Polled, now: Instant) -> Fleet:
    """Return the fleet with what the status means for a stop that was asked for: from now on it has so long."""
    if not fleet.stop:
        return fleet
    passed_on = fleet.stop_passed_on and (event.epoch is None or event.epoch == fleet.stop_epoch)
    stop_s = fleet.stop_s if fleet.stop_read else now.mono_s + STOP_WITHIN_S
    return fleet.with_(stop_read=True, stop_s=stop_s, stop_passed_on=passed_on)


def _after_poll(fleet: Fleet, event: fw.Polled, now: Instant) -> Outcome:
    machine = fleet.machine
    assert machine is not None
    if event.phase == fw.DONE and event.exit_code is not None and not event.more:
        return over(fleet.with_(phase=Phase.SERVING), event.exit_code, event)
    if fleet.phase is not Phase.SERVING:
        if event.phase == "":  # no agent was ever started there
            return release(fleet, "end") if fleet.stop else go_on(fleet, now)
        fleet = fleet.with_(phase=Phase.SERVING)
    return _while_it_runs(fleet, machine, event, now)


def _while_it_runs(fleet: Fleet, machine: Machine, event: fw.Polled, now: Instant) -> Outcome:
    if not fleet.stop and (limit := limit_reached(fleet, now)):
        return ask_to_stop(fleet, limit, now, code=errors.HANDED_OVER)
    if not fleet.stop and (words := unsaved.given_up(fleet, now)):
        return ask_to_stop(fleet, words, now, code=errors.NO_PROGRESS)
    if fleet.stop and not fleet.stop_passed_on and event.phase:
        return fleet.calling("PassOnStop"), (fw.PassOnStop(),)
    endless = fleet.preparing_s is not None and now.mono_s - fleet.preparing_s > PREPARING_S_MAX
    if endless or now.mono_s - fleet.beat_s > fleet.policy.silence_s:
        return look(fleet.with_(stale=True))
    if event.watched is False:
        said = fw.Say(
            "info",
            f"the notebook cell that kept {machine.endpoint} busy has ended: starting another, as idle machines are taken away",
        )
        return fleet.calling("StartAgent"), (said, fw.StartAgent(machine, again=True))
    return fleet.with_(wake_s=now.mono_s + _pause_s(fleet, event)), ()


def _pause_s(fleet: Fleet, event: fw.Polled) -> float:
    """Return when to ask again: soon until the machine's first step, then soon after each save; loss is bounded by that."""
    most_s = fleet.policy.poll_s
    if event.more:
        return 0.0
    if fleet.life is None or fleet.life.step is None or fleet.stop:
        return min(most_s, POLL_SOON_S)
    if event.next_save_s is not None:
        return min(most_s, max(POLL_SOON_S, event.next_save_s + SAVED_S))
    return min(most_s, POLL_UNSAFE_S) if fleet.life.safe == fleet.life.safe_from else most_s


def _went_back(fleet: Fleet, event: fw.Polled) -> tuple[fw.Command, ...]:
    """Say that a machine's run began at an earlier step again, while nothing of it is safe."""
    before = None if fleet.life is None else fleet.life.step
    if event.step is None or before is None or event.step >= before or event.epoch is None:
        return ()
    held = "nothing is safe yet" if fleet.safe is None else f"step {fleet.safe:,} is safe"
    if fleet.safe is not None and event.step >= fleet.safe:
        return ()
    words = f"the run went back from step {before:,} to step {event.step:,} on its machine; {held}"
    return (fw.Say("warning", words, "see why: `logs`"),)


def restarted(fleet: Fleet, event: fw.Restarted, now: Instant) -> Outcome:
    """What ran there has ended: its agent is started again."""
    if event.words:
        fleet, commands = go_on(fleet.with_(doing="", phase=Phase.STARTING, beat_s=now.mono_s), now)
        return fleet, (fw.Say("warning", f"the agent's last line: {event.words}"), *commands)
    return go_on(fleet.with_(doing="", phase=Phase.STARTING, beat_s=now.mono_s), now)


def stop_passed_on(fleet: Fleet, event: fw.StopPassedOn, now: Instant) -> Outcome:
    """It will hear of the wish."""
    return fleet.with_(doing="", stop_passed_on=True, stop_epoch=event.epoch, wake_s=now.mono_s), ()


def over(fleet: Fleet, code: int, event: fw.Polled) -> Outcome:
    """The run's session on the machine ended with this exit code, and home holds all of it."""
    if code == errors.HANDED_OVER and not fleet.stop:
        return release(fleet.with_(exit_code=code), "next")
    if code in {errors.INTERRUPTED, errors.TERMINATED} and fleet.stop_before and not (fleet.stop or event.asked):
        fleet, commands = release(fleet, "next")
        words = "the stop of an earlier launch had reached the machine, so the run saved and ended there; it goes on"
        return fleet, (fw.Say("warning", words), *commands)
    if event.output and code not in {0, errors.INTERRUPTED, errors.TERMINATED}:
        fleet, commands = release(fleet.with_(exit_code=fleet.stop_code if fleet.stop else code), "end")
        return fleet, (fw.Say("error", f"the last lines of its output:\n{event.output}"), *commands)
    return release(fleet.with_(exit_code=fleet.stop_code if fleet.stop and code != 0 else code), "end")


def release(fleet: Fleet, then: str) -> Outcome:
    """Give the machine back, to go on with the ``next``, or to ``end``."""
    machine = fleet.machine
    assert machine is not None
    fleet = fleet.with_(phase=Phase.RELEASING, release_then=then, troubles=0, wake_s=None)
    return fleet.calling("Release"), (fw.Release(machine),)


def give_up_stopping(fleet: Fleet) -> Outcome:
    """The run was asked to stop and had its time for it: give the machine back, and say what is left there."""
    assert fleet.machine is not None
    here = "nothing" if fleet.safe is None else f"step {fleet.safe:,}"
    words = f"the run has not ended {duration(STOP_WITHIN_S)} after the stop: giving {fleet.machine.endpoint} back"
    fleet, commands = release(fleet, "end")
    return fleet, (fw.Say("error", words, f"this computer holds {here}; what was not fetched is lost"), *commands)


def released(fleet: Fleet, event: fw.Released, now: Instant) -> Outcome:
    """It is off the list."""
    if fleet.stray is not None and fleet.stray.endpoint == event.endpoint:
        fleet, told = given_back(fleet, event.endpoint)
        if fleet.closing is not None:
            fleet, commands = end(fleet, *fleet.closing)
            return fleet, (told, *commands)
        return fleet.with_(wake_s=now.mono_s), (told,)
    fleet = fleet.with_(doing="")
    if fleet.machine is None or fleet.machine.endpoint != event.endpoint:
        return look(fleet)
    fleet = fleet.closed(GIVEN_BACK, now.wall_s)
    said = fw.Say("info", f"{event.endpoint} is given back")
    if fleet.release_then == "next" and not fleet.stop:
        fleet, commands = pause_before_next(fleet, now)
        return fleet, (said, *commands)
    if fleet.policy.paid:  # what the last machine cost is seen only now
        return fleet.calling("CheckBalance"), (said, fw.CheckBalance())
    fleet, commands = final(fleet)
    return fleet, (said, *commands)


def lost(fleet: Fleet, now: Instant) -> Outcome:
    """Enough listings in a row do not have it."""
    assert fleet.machine is not None
    endpoint, life = fleet.machine.endpoint, fleet.life
    lived_s = now.wall_s - life.began_wall_s if life else 0.0
    safe = "nothing safe" if fleet.safe is None else f"step {fleet.safe:,} safe"
    words = f"{endpoint} is gone after {duration(lived_s)}: {safe} on this computer"
    fleet = next_lost_look(fleet.with_(lost_looks=0), now)
    fleet, commands = pause_before_next(fleet.closed(LOST, now.wall_s), now)
    return fleet, (fw.Say("warning", words), *commands)


def pause_before_next(fleet: Fleet, now: Instant) -> Outcome:
    """Wait a moment, longer after each machine that brought nothing; give up after some."""
    last = fleet.lives[-1]
    fruitless = 0 if last.safe != last.safe_from else fleet.fruitless + 1
    fleet = fleet.with_(fruitless=fruitless, phase=Phase.WAITING, name="")
    if fruitless >= fleet.policy.fruitless_max:
        words = f"{fruitless} machines in a row brought nothing new home"
        hint = "see what each did: `logs`"
        return end(fleet, errors.NO_PROGRESS, "FAILED", words, hint)
    if fleet.stop:
        return final(fleet)
    pause_s = min(AGAIN_S * 4**fruitless, AGAIN_S_MAX) if fruitless else 0.0
    return fleet.with_(wake_s=now.mono_s + pause_s), ()


def ask_to_stop(fleet: Fleet, words: str, now: Instant, code: int = errors.INTERRUPTED) -> Outcome:
    """Have the run save and end, then fetch and give back; without a machine end at once."""
    if fleet.stop:
        return fleet, ()
    fleet = fleet.with_(stop=words, stop_code=code, stop_passed_on=False, stop_read=False, stop_s=None)
    if fleet.machine is None and not fleet.doing:
        return end(fleet, code, "CANCELLED" if code == errors.INTERRUPTED else "PENDING", words)
    said = fw.Say(
        "warning",
        words,
        "the run saves, its results are fetched, the machine is given back; Ctrl-C from now on leaves it running instead",
    )
    if fleet.doing:
        return fleet, (said,)
    fleet, commands = go_on(fleet.with_(wake_s=None), now)
    return fleet, (said, *commands)


def limit_reached(fleet: Fleet, now: Instant) -> str:
    """Return the limit of a person that is reached, in words; "" for none."""
    policy = fleet.policy
    if policy.until_wall_s is not None and now.wall_s >= policy.until_wall_s:
        return "the time set with --until is over"
    used = fleet.used(now.wall_s)
    if policy.units_max is not None and fleet.life is not None and used >= policy.units_max:
        return f"about {used:.2f} units are used: --max-units"
    return ""


def look(fleet: Fleet, now: Instant | None = None) -> Outcome:
    """See what is there; before a machine is brought up also what the account has, where that was not read lately."""
    fleet = fleet.with_(wake_s=None, look=False)
    if fleet.policy.paid and fleet.machine is None and not (now is not None and _has_units(fleet, now)):
        return fleet.calling("CheckBalance"), (fw.CheckBalance(),)
    return fleet.calling("ListMachines"), (fw.ListMachines(),)


def _has_units(fleet: Fleet, now: Instant) -> bool:
    """Return True if the last balance is recent and large enough. The next machine then starts without reading it again."""
    since_s = now.wall_s - fleet.units_wall_s
    if fleet.units is None or fleet.policy.units_max is not None or not 0 <= since_s < UNITS_KNOWN_S:
        return False
    return fleet.units - (fleet.units_per_hour or 0.0) * since_s / 3600 > UNITS_ENOUGH
