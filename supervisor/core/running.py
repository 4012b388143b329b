"""While the trainer runs: its messages, its death, the fence, the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core import claim, errors, finishing, liveness, messages, missing_packages, recovery, saving, troubled
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.ending import KILL_AFTER_TERM_S, KILL_S_MIN, begin, begin_fenced, stop_asked
from supervisor.core.rollback import ROLLED_BACK
from supervisor.core.session import Ending, Phase, Session, save_interval
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome


WORKING_CPU_S = 5.0  # in the time that "start" may be silent: half an hour of waiting for nothing costs less
ALIKE = 0.9  # of the steps of the attempt before
REPEATS = "it made as many steps as the attempt before and ended in the same way: this counts as no progress"
_AWAY = frozenset({"gone", "hung"})


def trainer_said(session: Session, event: ev.TrainerSaid, now: Instant) -> Outcome:
    """Any message is a sign of life; what else it means depends on its kind."""
    handler = _SAID.get(type(event.message))
    return handler(session, event.message, now) if handler else (session, ())


def trainer_exited(session: Session, event: ev.TrainerExited, now: Instant) -> Outcome:
    """The attempt is over: finished, told to, or dead; a death is judged by its cause and by progress."""
    trainer = session.trainer.with_(alive=False)
    session = session.with_(trainer=trainer, saves=session.saves.with_(asked=False))
    session = session.timed(save=None, terminate=None, kill=None, leave=None)
    if session.phase is Phase.DRAINING:
        return session, ()
    came_to_its_end = finishing.came_to_its_end(_farther(session).trainer, event.code)
    if came_to_its_end and session.saves.lost:
        words = f"the script finished, but its last checkpoint could not be saved: {session.saves.lost}"
        return _died(session.with_(trainer=trainer.with_(said=("script", words), mark=words)), event, now)
    if came_to_its_end:
        words, beside = finishing.finished_words(session, event.code)
        session, commands = begin(session, Ending(Phase.SUCCEEDED, errors.SUCCEEDED, "succeeded", words))
        session = session.timed(give_up_waiting=now.mono_s + session.config.upload_wait_s)
        return session, (do.Say("warning", beside), *commands) if beside else commands
    if event.code == 0 and trainer.said is None:
        words = finishing.unfinished_words(session)
        session = session.with_(trainer=trainer.with_(said=("unfinished", words), mark="unfinished"))
    return _died(session, event, now)


def fence_seen(session: Session, event: ev.FenceSeen, now: Instant) -> Outcome:
    """The regular look: outranked, asked to stop, or free to go on."""
    rank = session.rank
    if rank is None:
        return session, ()
    session = session.timed(fence=now.mono_s + session.config.fence_every_s)
    session, said = _answers_again(session, now)
    if event.knocks > session.answered:
        session, said = session.with_(answered=event.knocks), (*said, do.Answer(event.knocks))
    by = claim.judge(event.names, rank)
    if session.ending and session.ending.phase is Phase.FENCED:
        return session, ()  # once outranked is outranked for good: a later listing that shows less is a stale one
    if by is not None:
        return begin_fenced(session, by)
    if session.frozen:
        thaws_s = session.frozen_at_s + session.config.settle_s
        looked_s = now.mono_s if event.looked_s is None else event.looked_s
        if looked_s < thaws_s:  # it may be from before the freeze, or stale, and not show a successor yet
            session = session.timed(fence=min(max(thaws_s, now.mono_s), session.timers.fence or thaws_s))
        else:
            session = saving.ask_again(session.with_(frozen=False), now)
    if event.stop and (session.phase is not Phase.DRAINING or _more_urgent(session, event.stop)):
        session, commands = stop_asked(session, event.stop, now)
    else:
        session, commands = saving.publish_next(session)
    return session, (*said, *commands)


def fence_unreadable(session: Session, event: ev.FenceUnreadable, now: Instant) -> Outcome:
    """Failing to see the store is no failure of the run: training goes on, and what is staged waits on the local disk.

    Where the mount itself is away, whatever is there afterwards is looked at anew before anything is written.
    """
    session = session.timed(fence=now.mono_s + session.config.fence_every_s)
    if event.kind in _AWAY:
        session = session.with_(frozen=True, frozen_at_s=now.mono_s)
    if session.dark:
        return session.with_(dark=event.kind), ()
    session = session.with_(dark=event.kind, dark_since_s=now.mono_s)
    hint = "training goes on, checkpoints are kept on this machine's disk until it answers again"
    if event.kind == "gone":
        hint = f"mount it again in the same place; {hint}"
    return session, (do.Say("warning", f"the store does not answer: {event.error}", hint),)


def journal_closed(session: Session, _event: ev.JournalWritten | ev.JournalFailed, now: Instant) -> Outcome:
    """A piece was closed, or its records go out with the next one: which is due after the usual time."""
    return session.timed(journal=now.mono_s + session.config.journal_every_s), ()


def silent(session: Session, now: Instant) -> Outcome:
    """No sign of life for too long. Before its first step the script may be at work all the same: that is looked at first."""
    if session.trainer.vitals.section == "start" and session.config.liveness.fixed_s is None:
        return _moved(session, now), (do.LookAtTrainer(),)
    return _hung(session, now)


def seen(session: Session, event: ev.TrainerSeen, now: Instant) -> Outcome:
    """A script that nobody attached says nothing of its steps: while it computes, it is not taken to hang."""
    trainer = session.trainer
    if trainer.finished is not None:
        return finishing.looked_at(session, event, now)
    if not trainer.alive or trainer.hung or trainer.vitals.section != "start":
        return session, ()
    if event.cpu_s is None or event.cpu_s - trainer.cpu_s >= WORKING_CPU_S:
        return session.with_(trainer=trainer.with_(cpu_s=event.cpu_s or 0.0)), ()
    return _hung(session, now)


def _hung(session: Session, now: Instant) -> Outcome:
    """Dump the stacks, which also ends it; the exit is then judged as a hang.

    It is killed some seconds later all the same, because a stopped process does not hear the signal for its stacks.
    """
    section = session.trainer.vitals.section
    words = f"no sign of life from the trainer in its section {section!r}: dumping its stacks and restarting it"
    session = session.with_(trainer=session.trainer.with_(hung=True))
    fixed_s = session.config.liveness.fixed_s
    kill_s = KILL_AFTER_TERM_S if fixed_s is None else min(KILL_AFTER_TERM_S, max(KILL_S_MIN, fixed_s))
    return session.timed(kill=now.mono_s + kill_s), (do.Say("warning", words), do.EndTrainer("stacks"))


def _beat(session: Session, beat: messages.Beat, now: Instant) -> Outcome:
    trainer, vitals = session.trainer, session.trainer.vitals
    moved = beat.step != trainer.step or beat.section != vitals.section
    done = beat.step - trainer.step if trainer.step is not None and beat.step > trainer.step else 0
    known = vitals.longest_s
    longer = {section: seconds for section, seconds in beat.longest_s.items() if seconds > known.get(section, 0.0)}
    vitals = liveness.Vitals(
        section=beat.section,
        moved_at_s=now.mono_s if moved else vitals.moved_at_s,
        steps_seen=vitals.steps_seen + done,
        longest_s={**known, **longer} if longer else known,
    )
    total = trainer.total_steps if beat.total_steps is None else beat.total_steps
    trainer = trainer.with_(
        step=beat.step, step_s=beat.step_s or trainer.step_s, vitals=vitals, total_steps=total, asked=beat.asked
    )
    session = session.with_(trainer=trainer)
    if not beat.asked and session.timers.save is not None:
        session = session.with_(saves=session.saves.with_(asked=False)).timed(save=None)
    unarmed = session.timers.save is None and not session.saves.asked and session.phase is Phase.RUNNING
    if unarmed and beat.section == "step" and save_interval(session):
        session = saving.first_save_due(session, now)  # the attempt has come to its steps
    return session, ()


def _staged(session: Session, said: messages.Staged, now: Instant) -> Outcome:
    if session.rollback and said.step > session.rollback.limit:
        return session, ()  # it is withdrawn already
    return saving.staged(_moved(session, now), said, now)


def _save_failed(session: Session, said: messages.SaveFailed, now: Instant) -> Outcome:
    return saving.save_failed(_moved(session, now), said, now)


def _restored(session: Session, _said: messages.Restored, now: Instant) -> Outcome:
    return _moved(session, now), ()


def _read_back(session: Session, said: messages.ReadBack, now: Instant) -> Outcome:
    """A script that read nothing of what was put back is at its first step: progress counts from there."""
    session = _moved(session, now)
    session = session.with_(trainer=session.trainer.with_(anew=not said.path))
    if said.path or session.trainer.attempt > 1:
        return session, ()
    return session.with_(resumed_step=0, progress_step=0), ()


def _noted(session: Session, said: messages.Note, _now: Instant) -> Outcome:
    return session, (do.Say(said.level, said.text, said.hint),)


def _greeted(session: Session, said: messages.Hello, _now: Instant) -> Outcome:
    return session.with_(trainer=session.trainer.with_(attached=session.trainer.attached or said.attached)), ()


def _script_failed(session: Session, said: messages.ScriptFailed, _now: Instant) -> Outcome:
    words = ": ".join(filter(None, (said.type, said.message))) + (f" ({said.where})" if said.where else "")
    mark = f"{said.type} {said.where}" if said.where else words
    return session.with_(trainer=session.trainer.with_(said=(said.kind, words), mark=mark)), ()


def _answers_again(session: Session, now: Instant) -> Outcome:
    if not session.dark:
        return session, ()
    words = f"the store answers again, after {duration(now.mono_s - session.dark_since_s)}"
    return session.with_(dark=""), (do.Say("info", words),)


def _more_urgent(session: Session, stop: str) -> bool:
    ending = session.ending
    if ending is not None and ending.reason == ROLLED_BACK:
        return True  # or the successor, which nobody asked, would go on
    return stop == "now" and ending is not None and ending.phase is Phase.CANCELLED and ending.wait_for_uploads


def _moved(session: Session, now: Instant) -> Session:
    vitals = replace(session.trainer.vitals, moved_at_s=now.mono_s)
    return session.with_(trainer=session.trainer.with_(vitals=vitals))


def _died(session: Session, event: ev.TrainerExited, now: Instant) -> Outcome:
    trainer = session.trainer
    death = recovery.name_death(code=event.code, oom=event.oom, hung=trainer.hung, said=trainer.said)
    if trainer.hung and trainer.vitals.section == liveness.AFTER:
        death = replace(death, passing=False)  # nothing is left to train: it hangs there the next time too
    if event.other_file:
        death = replace(death, cause=recovery.Cause.SCRIPT, passing=True)
    reached = max(session.saves.newest_step or 0, session.resumed_step)
    if trainer.anew:  # what it saves again is no progress; steps that no attempt had done are
        reached = trainer.step or 0
    mark = trainer.mark or ("after the end" if trainer.finished or trainer.hung else "")
    steps = _own_steps(session)
    repeats = _repeats(session, death, mark, steps)
    failures = 1 if reached > session.progress_step and not repeats else session.failures + 1
    session = session.with_(failures=failures, progress_step=max(reached, session.progress_step), cause=death.cause)
    session = _marked(session, mark).with_(failed_steps=steps)
    move = recovery.next_move(death, failures, session.config.restarts, same=session.failed_same, repeats=repeats)
    if isinstance(move, recovery.GiveUp):
        hint = _hint(death)
        said = do.Say("error", move.words, hint)
        ending = Ending(Phase.FAILED, move.exit_code, _reason(move.exit_code), move.words, hint=hint)
        session, commands = begin(session, ending)
        session = session.timed(give_up_waiting=now.mono_s + session.config.upload_wait_s)
        return session, (said, *commands)
    session = session.with_(phase=Phase.BACKOFF, recoveries=session.recoveries + 1)
    hint = f"restarting it in {move.wait_s:.1f} s (attempt {trainer.attempt + 1})"
    said = do.Say("warning", death.words, f"{hint}; {REPEATS}" if repeats else hint)
    return session.timed(retry=now.mono_s + move.wait_s), (said,)


def _own_steps(session: Session) -> int:
    """Return the number of steps that this attempt has made itself. Snapshots count where no steps are reported."""
    step = _farther(session).trainer.step or 0
    return (session.trainer.step or 0) if session.trainer.anew else max(0, step - (session.base_step or 0))


def _repeats(session: Session, death: recovery.Death, mark: str, steps: int) -> bool:
    """Say whether this attempt was like the one before: as many steps, and the same end.

    Steps of an unmodified script are counted on from the file that it opened. A script that trains everything again
    seems to get farther each time. An end that comes from outside has to come after exactly as many steps.
    """
    if session.base_step is None or session.trainer.anew or not steps:
        return False
    if (death.cause, mark) != (session.cause, session.failed_at):
        return False
    return steps == session.failed_steps or (not death.passing and steps >= ALIKE * session.failed_steps > 0)


def _farther(session: Session) -> Session:
    """What is staged tells how far a script has come whose last words were lost."""
    trainer, staged = session.trainer, session.saves.newest_step or 0
    return session.with_(trainer=trainer.with_(step=max(trainer.step or 0, staged)))


def _marked(session: Session, mark: str) -> Session:
    """Note where this attempt ended, and how often in a row it was there without a step that no attempt had done before.

    An end without a word (no ``mark``) is no place that could be known again.
    """
    step = (session if session.trainer.anew else _farther(session)).trainer.step or 0
    again = bool(mark) and mark == session.failed_at and step <= session.farthest
    same = session.failed_same + 1 if again else 1
    return session.with_(failed_at=mark, failed_same=same, farthest=max(step, session.farthest))


def _hint(death: recovery.Death) -> str:
    match death.cause:
        case recovery.Cause.OUT_OF_MEMORY | recovery.Cause.DEVICE_OUT_OF_MEMORY:
            todo = "use a smaller batch or a machine with more memory"
        case recovery.Cause.SETUP:
            todo = (
                missing_packages.todo(death.words)
                or "correct the script, its arguments or its packages and start again"
            )
        case recovery.Cause.CODE:
            todo = missing_packages.todo(death.words) or "correct that line and start again"
        case recovery.Cause.UNFINISHED:
            todo = "start again to go on; a script whose training is done early leaves its loop with `break`"
        case _:
            todo = "see its last lines above or in `logs`, mend it and start again"
    return f"{todo}; what was saved is kept"


def _reason(exit_code: int) -> str:
    return {errors.NO_PROGRESS: "no-progress", errors.FAILED_SETUP: "failed-setup"}.get(exit_code, "failed")


_SAID: dict[type, Callable[[Session, Any, Instant], Outcome]] = {
    messages.Hello: _greeted,
    messages.Finished: finishing.finished,
    messages.Beat: _beat,
    messages.Staged: _staged,
    messages.SaveFailed: _save_failed,
    messages.Restored: _restored,
    messages.ReadBack: _read_back,
    messages.Note: _noted,
    messages.ScriptFailed: _script_failed,
    messages.Trouble: troubled.met,
}
