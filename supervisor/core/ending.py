"""How a session ends: stop the trainer with its save, wait for the upload, write the end, publish it once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core import commands as do
from supervisor.core import errors, messages, saving
from supervisor.core import events as ev
from supervisor.core.rollback import ROLLED_BACK
from supervisor.core.session import FINAL, Ending, Phase, Session, Timers, lifetime_end
from supervisor.core.spoken import at, duration

if TYPE_CHECKING:
    from supervisor.core.claim import Rank
    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome

GRACE_S_MIN = 30.0
GRACE_ON_SIGTERM_S = 20.0  # Kubernetes kills 30 s after it: by then the end is to be on record
KILL_AFTER_TERM_S, KILL_S_MIN = 10.0, 2.0
WRITE_END_S = 30.0
END_S = 2.0  # of a short notice, for the record of the end
FLUSH_S = 900.0
DARK_WAIT_S = 60.0  # for a store that does not answer: it may come back, and a person waits

UNPROVED = "unproved"
_SIGNALS = {"SIGINT": (errors.INTERRUPTED, "stopped by Ctrl-C"), "SIGTERM": (errors.TERMINATED, "stopped by SIGTERM")}


def begin(session: Session, ending: Ending) -> Outcome:
    """Enter the drain towards ``ending``. An end that is being written is not written twice, whatever comes then."""
    if session.phase in FINAL:
        return session, ()
    if session.ending and session.ending.end_asked:
        ending = replace(ending, end_asked=True)
    session = session.with_(phase=Phase.DRAINING, ending=ending)
    return session.timed(look=None, retry=None, save=None), ()


def begin_stop(session: Session, ending: Ending, now: Instant, *, save: bool, within_s: float | None = None) -> Outcome:
    """Tell the trainer to stop, with its save, inside a grace that counts the measured step and save times."""
    session, _ = begin(session, ending)
    grace_s = grace(session, ending) if within_s is None else _grace_within(session, within_s)
    wait_s = session.config.upload_wait_s if within_s is None else max(1.0, within_s)
    session = session.timed(give_up_waiting=now.mono_s + grace_s + wait_s if within_s is None else now.mono_s + wait_s)
    if not session.trainer.alive:
        return session, ()
    session = session.timed(terminate=now.mono_s + grace_s)
    return session, (do.Tell(messages.Stop(ending.reason, save, grace_s)),)


def begin_fenced(session: Session, by: Rank | None) -> Outcome:
    """Another machine has the run: end the trainer now, publish and delete nothing."""
    words = f"another machine has taken over this run ({by}); nothing of it was touched"
    ending = Ending(Phase.FENCED, errors.FENCED, "fenced", words, wait_for_uploads=False)
    session, _ = begin(session, ending)
    session = session.with_(frozen=True)
    said = do.Say("warning", words, "this process ends; the run goes on there")
    return session, (said, do.EndTrainer("kill")) if session.trainer.alive else (said,)


def grace(session: Session, ending: Ending | None = None) -> float:
    """Return how long the trainer may take to save and end, in seconds: five times what it has needed so far."""
    on_sigterm = ending is not None and ending.exit_code == errors.TERMINATED and ending.words == _SIGNALS["SIGTERM"][1]
    return max(GRACE_ON_SIGTERM_S if on_sigterm else GRACE_S_MIN, 5 * _measured_s(session))


def signalled(session: Session, event: ev.Signalled, now: Instant) -> Outcome:
    """SIGINT and SIGTERM save and end; a second one ends at once. A closed terminal saves and goes on."""
    if event.name == "SIGHUP":
        said = do.Say("info", "the terminal was closed: the run goes on; `status` and `stop` look after it")
        told: tuple[do.Command, ...] = (do.Tell(messages.Save("terminal closed")),) if session.trainer.alive else ()
        return session, (said, *told)
    exit_code, words = _SIGNALS.get(event.name, (errors.TERMINATED, f"stopped by {event.name}"))
    ending = Ending(Phase.CANCELLED, exit_code, "stopped", words)
    under_way = session.ending.phase if session.phase is Phase.DRAINING and session.ending else None
    if under_way is Phase.CANCELLED:
        return _at_once(session, replace(ending, wait_for_uploads=False))
    rolls_back = session.ending is not None and session.ending.reason == ROLLED_BACK
    if under_way in {Phase.FAILED, Phase.FENCED} or (session.ending and session.ending.end_asked and not rolls_back):
        return session, ()
    heard = f"{words.removeprefix('stopped by ')}: saving first, then ending"
    session, commands = begin_stop(session, ending, now, save=True)
    return session, (do.Say("info", heard, "once more ends it at once, and loses what is not saved"), *commands)


def stop_asked(session: Session, how: str, now: Instant) -> Outcome:
    """Somebody asked through the store that this session end ("save" first, or "now")."""
    ending = Ending(Phase.CANCELLED, errors.TERMINATED, "stopped", "stopped on request")
    if how == "now":
        return _at_once(session, replace(ending, wait_for_uploads=False))
    session, commands = begin_stop(session, ending, now, save=True)
    return session, (do.Say("info", "asked to stop: saving first"), *commands)


def noticed(session: Session, event: ev.Notice, now: Instant) -> Outcome:
    """The machine goes for certain: save and hand over within what is left. It only may: save and go on."""
    if not event.certain:
        said = do.Say("warning", f"this machine may end soon: {event.words}", "saving now, then going on")
        session, commands = saving.ask_for_save(session, "notice", now)
        return session, (said, *commands)
    words = f"this machine ends soon: {event.words}"
    ending = Ending(Phase.HANDED_OVER, errors.HANDED_OVER, "handed-over", words)
    within_s, end_s, life = event.in_s, lifetime_end(session), session.config.lifetime
    if end_s is not None and life is not None and life.hard:
        within_s = max(1.0, min(within_s, end_s - now.mono_s))
    session, commands = begin_stop(session, ending, now, save=True, within_s=within_s)
    hint = f"saving first, within {duration(within_s)}; start again on another machine to go on"
    return session, (do.Say("warning", words, hint), *commands)


def controller_failed(session: Session, event: ev.ControllerFailed, _now: Instant) -> Outcome:
    """A defect of ours: leave the staged and the stored as they are, end the trainer, say it."""
    last = event.error.strip().rpartition("\n")[2]
    words = event.words or f"a defect in the supervisor: {last}"
    hint = event.hint or "report it with the journal, which has the whole of it; what was saved is kept"
    said = do.Say("error", words, hint)
    ending = Ending(Phase.FAILED, event.exit_code, "controller-failed", words, wait_for_uploads=False, hint=hint)
    session, commands = _at_once(session, ending)
    return session, (said, *commands)


def hand_over(session: Session, now: Instant) -> Outcome:
    """The budget is a hard one: last save, DURABLE, and leave so that the next machine resumes."""
    words = "the time budget of this machine is used up"
    ending = Ending(Phase.HANDED_OVER, errors.HANDED_OVER, "handed-over", words)
    end_s = lifetime_end(session)
    within_s = None if end_s is None else max(1.0, end_s - now.mono_s)
    session, commands = begin_stop(session, ending, now, save=True, within_s=within_s)
    return session, (do.Say("info", words, "saving, then handing over"), *commands)


def advance(session: Session, now: Instant) -> Outcome:
    """Go one step further in the drain, whatever just happened: trainer gone, uploads through, end written."""
    ending = session.ending
    if session.phase is not Phase.DRAINING or ending is None or session.trainer.alive or ending.end_asked:
        return session, ()
    saves, timers = session.saves, session.timers
    if session.rollback and not session.recorded and (ending.wait_for_uploads or ending.reason == ROLLED_BACK):
        return session, ()  # waited_enough sees to it that this comes to an end
    unproved = bool(saves.publishing or saves.waiting)
    until_s = _waits_until(session)
    if ending.wait_for_uploads and unproved and (until_s is None or now.mono_s < until_s):
        return _waiting(session, ending, now)
    if unproved and ending.phase is Phase.SUCCEEDED:
        words = f"finished, but the last checkpoint is not known to be safe; it lies in {saves.newest}"
        hint = "start again on this machine when the store answers: it is put there then"
        if saves.submitted_at_s is not None:
            hint = "it is written: keep this machine until it is uploaded (`checkpoints`), or start again here"
        ending = Ending(Phase.FAILED, errors.FAILED, UNPROVED, words, hint=hint)
    elif saves.lost and ending.phase is Phase.SUCCEEDED:
        words = f"finished, but the last checkpoint could not be put into the store: {saves.lost}"
        hint = "start again: it goes on from the checkpoint before that one"
        ending = Ending(Phase.FAILED, errors.FAILED, "failed", words, hint=hint)
    within_s = session.config.upload_wait_s if ending.reason == ROLLED_BACK else WRITE_END_S
    timers = Timers(give_up_waiting=now.mono_s + within_s)
    session = session.with_(ending=replace(ending, end_asked=True), timers=timers)
    if session.rank is None:
        return finish_at_once(session)
    step = saves.durable.step if saves.durable else None
    return session, (do.WriteEnd(ending.reason, ending.exit_code, ending.words, step),)


def end_written(session: Session, _event: ev.EndWritten, now: Instant) -> Outcome:
    """The end is on record (or could not be recorded, which the next session survives too).

    What is then still not proved is left to the platform to send, where it can: that ends the mount, so it comes last.
    """
    ending = session.ending
    if session.phase is not Phase.DRAINING or ending is None or ending.flush_asked:
        return session, ()
    if not (session.config.can_flush and ending.wait_for_uploads and session.saves.submitted_at_s is not None):
        return finish_at_once(session)
    end_s = lifetime_end(session)
    within_s = FLUSH_S if end_s is None else min(FLUSH_S, max(30.0, end_s - now.mono_s))
    session = session.with_(
        ending=replace(ending, flush_asked=True), timers=Timers(give_up_waiting=now.mono_s + within_s)
    )
    said = do.Say("info", f"letting {session.config.place} send what is left, for at most {duration(within_s)}")
    return session, (said, do.Flush(within_s))


def flushed(session: Session, event: ev.Flushed, _now: Instant) -> Outcome:
    """All that was written has left this machine, or could not: say which, and end."""
    if event.error:
        session, commands = finish_at_once(session)
        return session, (
            do.Say("warning", f"{session.config.place} could not send what is left: {event.error}"),
            *commands,
        )
    saves = session.saves.with_(publishing="", submitted_at_s=None, durable=event.id or session.saves.durable)
    ending = session.ending
    if ending is not None and ending.reason == UNPROVED and not saves.waiting:
        ending = Ending(Phase.SUCCEEDED, errors.SUCCEEDED, "succeeded", "the script finished")
    return finish_at_once(session.with_(saves=saves, ending=ending))


def finish_at_once(session: Session) -> Outcome:
    """Enter the final phase. What is said of it is the one thing a final phase publishes."""
    ending = session.ending or Ending(Phase.FAILED, errors.FAILED, "failed", "ended without a reason")
    return session.with_(phase=ending.phase, ending=ending, timers=Timers()), ()


def unrecorded(session: Session, why: str) -> Outcome:
    """What is withdrawn could not be put on record: nobody may go on as if it were."""
    words = f"what is to be withdrawn could not be recorded: {why}"
    session = session.with_(recorded=True)
    if session.ending is None or session.ending.reason != ROLLED_BACK:
        return session, (do.Say("warning", words, "the next session may meet the trouble again, and goes back then"),)
    hint = "start again when the store answers; what was saved is kept"
    return begin(session, Ending(Phase.FAILED, errors.FAILED, "failed", words, hint=hint, wait_for_uploads=False))


def terminate(session: Session, now: Instant) -> Outcome:
    """The grace is over: ask the whole process group, then kill it."""
    session = session.timed(terminate=None, kill=now.mono_s + _kill_after(session, now))
    said = do.Say("warning", "the trainer did not end in time; ending it")
    return session, (said, do.EndTrainer("term")) if session.trainer.alive else ()


def waited_enough(session: Session, now: Instant) -> Outcome:
    """The time for the drain is over: a trainer that still lives is killed; a store that still hangs is left."""
    if session.phase is not Phase.DRAINING:
        return session.timed(give_up_waiting=None), ()
    if session.trainer.alive:
        return session.timed(give_up_waiting=now.mono_s + KILL_AFTER_TERM_S), (do.EndTrainer("kill"),)
    if session.rollback and not session.recorded:
        return unrecorded(session, "the store gave no answer in time")
    return finish_at_once(session) if session.ending and session.ending.end_asked else (session, ())


def _measured_s(session: Session) -> float:
    """Return how long the trainer needs at the longest to come to a step's end and save."""
    longest = session.trainer.vitals.longest_s
    return longest.get("step", 0.0) + longest.get("eval", 0.0) + session.saves.stall_s + session.saves.write_s


def _grace_within(session: Session, within_s: float) -> float:
    """Return the grace that leaves the upload its time; if there is not enough for both, the save has its own first."""
    left_s = within_s - 2 * session.saves.upload_s - END_S
    most_s = within_s - END_S - KILL_S_MIN
    return max(1.0, min(most_s, grace(session), max(left_s, _measured_s(session))))


def _kill_after(session: Session, now: Instant) -> float:
    """Return how long a trainer that was asked to end has before it is killed: less where the end must be on record soon."""
    if session.ending is not None and session.ending.words == _SIGNALS["SIGTERM"][1]:
        return KILL_AFTER_TERM_S / 2
    until_s = session.timers.give_up_waiting
    left_s = KILL_AFTER_TERM_S if until_s is None else until_s - END_S - now.mono_s
    return max(1.0, min(KILL_AFTER_TERM_S, left_s))


def _waits_until(session: Session) -> float | None:
    """Return until when uploads are waited for, in monotonic seconds; None for as long as it takes."""
    dark_s = session.dark_since_s + DARK_WAIT_S if session.dark else None
    return min((at for at in (session.timers.give_up_waiting, dark_s) if at is not None), default=None)


def _waiting(session: Session, ending: Ending, now: Instant) -> Outcome:
    """Say once what is being waited for, where that may take its time."""
    until_s = _waits_until(session)
    if ending.waiting_said or until_s is None or not session.config.confirm_every_s:
        return session, ()
    step = session.saves.newest_step
    what = "the last checkpoint" if step is None else f"step {step:,}"
    words = f"waiting at most {duration(until_s - now.mono_s)} until {what} is safe {at(session.config.place or 'the store')}"
    said = do.Say("info", words, "Ctrl-C ends at once; what is written then may not be uploaded")
    return session.with_(ending=replace(ending, waiting_said=True)), (said,)


def _at_once(session: Session, ending: Ending) -> Outcome:
    session, _ = begin(session, ending)
    session = session.timed(terminate=None, kill=None)
    return session, (do.EndTrainer("kill"),) if session.trainer.alive else ()
