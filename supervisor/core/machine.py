"""The supervisor as one pure function: ``decide(session, event, now) -> (session, commands)``.

``TABLE`` says in which phases an event means something; elsewhere it is late or early and changes nothing.
``TRANSITIONS`` is the state diagram of ARCHITECTURE.md; a test holds decide to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from supervisor.core import commands as do
from supervisor.core import ending, errors, finishing, running, saving, starting, troubled
from supervisor.core import events as ev
from supervisor.core.deadline import drain_at
from supervisor.core.instant import Instant
from supervisor.core.liveness import hangs_at, shortest
from supervisor.core.outcome import Outcome
from supervisor.core.rollback import ROLLED_BACK
from supervisor.core.session import FINAL, Phase, Session, lifetime_end, save_interval

GAP_S = 30.0
TICK_S = 30.0
SOONEST_S = 0.001

_S, _R, _RUN, _B, _D = Phase.STARTING, Phase.RESTORING, Phase.RUNNING, Phase.BACKOFF, Phase.DRAINING
_LIVE = frozenset({_S, _R, _RUN, _B, _D})
_WORKING = frozenset({_R, _RUN, _B})

Handler = Callable[[Session, Any, Instant], Outcome]

TABLE: dict[type, tuple[frozenset[Phase], Handler]] = {
    ev.Started: (frozenset({_S}), starting.started),
    ev.Looked: (frozenset({_S}), starting.looked),
    ev.Knocked: (frozenset({_S}), starting.knocked),
    ev.ClaimWritten: (frozenset({_S}), starting.claim_written),
    ev.EnvironmentReady: (frozenset({_S, _R}), starting.environment_ready),
    ev.HistoryRead: (frozenset({_R}), starting.history_read),
    ev.LivesRead: (_WORKING, starting.lives_read),
    ev.MachineSeen: (_LIVE, starting.machine_seen),
    ev.CheckpointReady: (frozenset({_R}), starting.restored),
    ev.SetupFailed: (frozenset({_S, _R, _B}), starting.setup_failed),
    ev.Launched: (frozenset({_R, _D}), starting.launched),
    ev.TrainerSaid: (frozenset({_RUN, _B, _R, _D}), running.trainer_said),
    ev.TrainerSeen: (frozenset({_RUN}), running.seen),
    ev.TrainerExited: (frozenset({_RUN, _D}), running.trainer_exited),
    ev.Submitted: (_LIVE, saving.submitted),
    ev.Unconfirmed: (_LIVE, saving.unconfirmed),
    ev.Durable: (_LIVE, saving.durable),
    ev.PublishFailed: (_LIVE, saving.publish_failed),
    ev.Retained: (_LIVE, saving.retained),
    ev.RetainFailed: (_LIVE, saving.retained),
    ev.FenceSeen: (_LIVE, running.fence_seen),
    ev.FenceUnreadable: (_LIVE, running.fence_unreadable),
    ev.JournalWritten: (_LIVE, running.journal_closed),
    ev.JournalFailed: (_LIVE, running.journal_closed),
    ev.RollbackWritten: (frozenset({_D}), troubled.recorded),
    ev.EndWritten: (frozenset({_D}), ending.end_written),
    ev.Flushed: (frozenset({_D}), ending.flushed),
    ev.Signalled: (_LIVE, ending.signalled),
    ev.Notice: (frozenset({_S, _R, _RUN, _B}), ending.noticed),
    ev.ControllerFailed: (_LIVE, ending.controller_failed),
}

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    _S: frozenset({_R, _D, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.HANDED_OVER}),
    _R: frozenset({_RUN, _D}),
    _RUN: frozenset({_B, _D}),
    _B: frozenset({_R, _D}),
    _D: FINAL,
}

_DEAF: tuple[frozenset[Phase], Handler] = (frozenset(), lambda session, _event, _now: (session, ()))


def decide(session: Session, event: ev.Event, now: Instant) -> Outcome:
    """Return the session after ``event`` and the commands that follow from it. Never raises; a final phase is deaf."""
    if session.phase in FINAL:
        return session, ()
    before = session
    session, woken = _after_gap(session, now)
    if type(event) is ev.Woke:
        session, commands = _due(session, now)
    else:
        phases, handler = TABLE.get(type(event), _DEAF)
        session, commands = handler(session, event, now) if session.phase in phases else (session, ())
    if session.phase is Phase.DRAINING:
        session, more = ending.advance(session, now)
        commands = (*commands, *more)
    session = session.with_(seen_s=now.mono_s)
    if woken:
        commands = (*woken, *commands)
    if type(event) is not ev.Started and _quiet(before, session):
        return session, commands
    session = session.timed(drain=_drain_time(session))
    return session, (*commands, *_announced(before, session, event))


def next_wakeup(session: Session) -> float:
    """Return the monotonic time at which ``Woke`` must come if no event came before; always later than now."""
    seen_s = session.seen_s
    soonest = seen_s + TICK_S
    if session.phase in FINAL:
        return soonest
    for at in vars(session.timers).values():
        if at is not None and at < soonest:
            soonest = at
    hang_s = _hang_time(session, soonest)
    if hang_s is not None and hang_s < soonest:
        soonest = hang_s
    return max(soonest, seen_s + SOONEST_S)


def run_state(session: Session) -> str:
    """Return the run's state as users and programs know it."""
    code = session.ending.exit_code if session.ending else None
    if session.phase is Phase.FAILED:
        named = {errors.FAILED_SETUP: "FAILED_SETUP", errors.FAILED_PRECHECKS: "FAILED_PRECHECKS"}
        if session.ending and session.ending.reason == "controller-failed":
            return "FAILED_CONTROLLER"
        return named.get(code or 0, "FAILED")
    if session.phase is Phase.DRAINING:
        return "CANCELLING" if session.ending and session.ending.phase is Phase.CANCELLED else "RUNNING"
    if session.ending and session.ending.reason == ROLLED_BACK:
        return "RECOVERING"
    return {
        Phase.RESTORING: "RECOVERING" if session.trainer.attempt > 1 or session.resumed_step else "STARTING",
        Phase.BACKOFF: "RECOVERING",
        Phase.HANDED_OVER: "PENDING",
        Phase.FENCED: "RUNNING",
    }.get(session.phase, str(session.phase))


def _hang_time(session: Session, by_s: float) -> float | None:
    """Return when the trainer is to be taken for hung, or None if that is never or surely after ``by_s``."""
    trainer, policy = session.trainer, session.config.liveness
    watched = trainer.alive and session.phase is Phase.RUNNING and not trainer.hung and policy.enabled
    watched = watched and trainer.finished is None  # then its process has its own grace
    if not watched or trainer.vitals.moved_at_s + shortest(policy) > by_s:
        return None
    return hangs_at(trainer.vitals, policy)


def _drain_time(session: Session) -> float | None:
    end_s = lifetime_end(session)
    if end_s is None or session.drained or session.phase not in _WORKING:
        return None
    saves, longest = session.saves, session.trainer.vitals.longest_s
    life_s = end_s - session.started_s
    save_s = saves.stall_s + saves.write_s
    return session.started_s + drain_at(life_s, save_s=save_s, upload_s=saves.upload_s, step_s=longest.get("step", 0.0))


def _due(session: Session, now: Instant) -> Outcome:
    commands: tuple[do.Command, ...] = ()
    now_s = now.mono_s
    for name in [name for name, at in vars(session.timers).items() if at is not None and now_s >= at]:
        at = getattr(session.timers, name)
        if at is not None and now_s >= at:  # what was done first may have put it off
            session, more = _DUE[name](session, now)
            commands = (*commands, *more)
    at = _hang_time(session, now_s)
    if at is not None and now_s >= at:
        session, more = running.silent(session, now)
        commands = (*commands, *more)
    return session, commands


def _look(session: Session, _now: Instant) -> Outcome:
    return session.timed(look=None), (do.Look(),)


def _save(session: Session, now: Instant) -> Outcome:
    return saving.ask_for_save(session, "due", now)


def _look_at_fence(session: Session, _now: Instant) -> Outcome:
    return session.timed(fence=None), (do.LookAtFence(),)


def _write_journal(session: Session, _now: Instant) -> Outcome:
    return session.timed(journal=None), (do.WriteJournal(),)


def _publish(session: Session, _now: Instant) -> Outcome:
    return saving.publish_next(session.timed(publish=None))


def _kill(session: Session, _now: Instant) -> Outcome:
    return session.timed(kill=None), (do.EndTrainer("kill"),) if session.trainer.alive else ()


def _drain(session: Session, now: Instant) -> Outcome:
    session = session.with_(drained=True)
    life = session.config.lifetime
    if life is not None and life.hard:
        return ending.hand_over(session, now)
    said = do.Say("info", "this machine may end soon: saving now, then going on until it really ends")
    session, commands = saving.ask_for_save(session, "deadline", now)
    return session, (said, *commands)


def _after_gap(session: Session, now: Instant) -> Outcome:
    """A process that slept, was paused or suspended may have been replaced meanwhile: look before writing anything."""
    if now.mono_s - session.seen_s < GAP_S or session.rank is None or session.seen_s == 0.0:
        return session, ()
    if now.mono_s - next_wakeup(session) < GAP_S:
        return session, ()
    gap_s = now.mono_s - session.seen_s
    trainer = session.trainer.with_(vitals=replace(session.trainer.vitals, moved_at_s=now.mono_s))
    session = session.with_(frozen=True, frozen_at_s=now.mono_s, trainer=trainer).timed(fence=None)
    said = do.Say("warning", f"this process stood still for {gap_s:.0f} s", "looking whether another machine took over")
    return session, (said, do.LookAtFence())


def _quiet(before: Session, after: Session) -> bool:
    """Say whether nothing changed that the time of the drain or the announcement is made of, as with most events."""
    return (
        before.saves is after.saves
        and before.phase is after.phase
        and before.timers.save == after.timers.save
        and before.trainer.vitals.longest_s is after.trainer.vitals.longest_s
        and before.trainer.attempt == after.trainer.attempt
        and before.drained == after.drained
        and before.ending is after.ending
        and before.history is after.history
        and before.recoveries == after.recoveries
        and before.cause == after.cause
        and before.resumed_step == after.resumed_step
        and before.started_s == after.started_s
    )


def _announced(before: Session, after: Session, event: ev.Event) -> tuple[do.Command, ...]:
    shown = _shown(after)
    return (do.Announce(**shown),) if type(event) is ev.Started or shown != _shown(before) else ()


def _shown(session: Session) -> dict[str, Any]:
    every = save_interval(session)
    return {
        "phase": str(session.phase),
        "state": run_state(session),
        "cause": session.cause,
        "attempt": session.trainer.attempt,
        "recoveries": session.recoveries,
        "deadline_at_s": lifetime_end(session),
        "next_save_at_s": session.timers.save,
        "save_every_s": every.every_s if every else None,
        "expected_loss_s": every.loss_s if every else None,
        "exit_code": session.ending.exit_code if session.ending and session.phase in FINAL else None,
    }


_DUE: dict[str, Callable[[Session, Instant], Outcome]] = {
    "look": _look,
    "retry": starting.retry,
    "save": _save,
    "fence": _look_at_fence,
    "journal": _write_journal,
    "publish": _publish,
    "confirm": saving.confirm,
    "terminate": ending.terminate,
    "kill": _kill,
    "give_up_waiting": ending.waited_enough,
    "drain": _drain,
    "leave": finishing.leave,
}
