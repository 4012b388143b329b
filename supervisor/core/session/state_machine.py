"""The supervisor as one pure function: ``decide(session, event, now) -> (session, commands)``.

Theory of operation

Rules:

1. ``decide`` reads no clock, no disk and no process. Time is an argument, and the outcome of every command returns as
   an event. A journal of events and commands therefore explains a session completely.
2. One thread owns the session. It calls ``decide`` for one event at a time and passes the commands to the executor.
3. A table maps each event to the phases in which it applies, and to its handler. In any other phase the event is late
   or early, and nothing changes.
4. ``TRANSITIONS`` is the state diagram. A test compares the behaviour of ``decide`` with it.
5. A final phase ignores every event.
6. All timers are fields of ``session.timers``. ``next_wakeup`` returns the next due time, and the loop sends
   ``TimerFired`` then. A due timer that runs its handler must be cleared or moved, else the session would spin.
7. ``decide`` never raises for a valid event. A defect in the engine arrives as the event ``InternalError``.

Phases:

- STARTING: inspect the run, wait for a possible owner, claim, and wait the settle time.
- RESTORING: read the history, fetch the newest valid checkpoint, prepare the environment, start the trainer.
- RUNNING: the trainer runs. Saves, uploads, fence checks and journal pieces are driven by timers.
- BACKOFF: the trainer failed. The next attempt starts after a delay.
- DRAINING: the end is decided. ``shutdown`` continues it after every event until nothing is left to wait for.
- SUCCEEDED, HANDED_OVER, FENCED, FAILED, CANCELLED: final, each with its exit code.

Order within one call of ``decide``:

a. If this process stood still for ``GAP_S``, another machine may own the run. Writes are suspended, and a fence check
   is ordered before anything else.
b. The handler of the event runs, or the handler of every due timer.
c. In the phase DRAINING the shutdown continues.
d. The drain timer and ``PublishState`` follow, unless nothing changed that they depend on.

Cases:

- The trainer is silent for longer than its hang deadline: the timers find it, and the trainer is ended.
- The machine's time ends soon: the session hands over if the limit is hard. Otherwise it saves once and continues.
- The store does not answer: no phase changes. Uploads wait, and training continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from supervisor.core import errors
from supervisor.core.clock import Instant
from supervisor.core.policy.deadline import drain_at
from supervisor.core.policy.liveness import hang_deadline, shortest
from supervisor.core.policy.rollback import ROLLED_BACK
from supervisor.core.session import anomaly, running, saving, script_end, shutdown, startup
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.decision import Outcome
from supervisor.core.session.state import FINAL, Phase, Session, lifetime_end, save_interval

GAP_S = 30.0
TICK_S = 30.0
SOONEST_S = 0.001

_S, _R, _RUN, _B, _D = Phase.STARTING, Phase.RESTORING, Phase.RUNNING, Phase.BACKOFF, Phase.DRAINING
_LIVE = frozenset({_S, _R, _RUN, _B, _D})
_WORKING = frozenset({_R, _RUN, _B})

Handler = Callable[[Session, Any, Instant], Outcome]

TABLE: dict[type, tuple[frozenset[Phase], Handler]] = {
    ev.SessionStarted: (frozenset({_S}), startup.started),
    ev.RunInspected: (frozenset({_S}), startup.run_inspected),
    ev.OwnerProbed: (frozenset({_S}), startup.owner_probed),
    ev.ClaimWritten: (frozenset({_S}), startup.claim_written),
    ev.EnvironmentReady: (frozenset({_S, _R}), startup.environment_ready),
    ev.HistoryRead: (frozenset({_R}), startup.history_read),
    ev.PeerLifetimesRead: (_WORKING, startup.peer_lifetimes_read),
    ev.MachineDetected: (_LIVE, startup.machine_detected),
    ev.CheckpointReady: (frozenset({_R}), startup.checkpoint_ready),
    ev.SetupFailed: (frozenset({_S, _R, _B}), startup.setup_failed),
    ev.TrainerStarted: (frozenset({_R, _D}), startup.trainer_started),
    ev.TrainerMessage: (frozenset({_RUN, _B, _R, _D}), running.trainer_message),
    ev.TrainerCpuSampled: (frozenset({_RUN}), running.trainer_cpu_sampled),
    ev.TrainerExited: (frozenset({_RUN, _D}), running.trainer_exited),
    ev.CheckpointWritten: (_LIVE, saving.on_written),
    ev.DurabilityPending: (_LIVE, saving.on_pending),
    ev.CheckpointDurable: (_LIVE, saving.on_durable),
    ev.UploadFailed: (_LIVE, saving.on_upload_failed),
    ev.Pruned: (_LIVE, saving.on_pruned),
    ev.PruneFailed: (_LIVE, saving.on_pruned),
    ev.FenceChecked: (_LIVE, running.fence_checked),
    ev.StoreUnreachable: (_LIVE, running.store_unreachable),
    ev.JournalWritten: (_LIVE, running.journal_closed),
    ev.JournalFailed: (_LIVE, running.journal_closed),
    ev.RollbackWritten: (frozenset({_D}), anomaly.on_rollback_recorded),
    ev.SessionEndRecorded: (frozenset({_D}), shutdown.session_end_recorded),
    ev.DriveFlushed: (frozenset({_D}), shutdown.drive_flushed),
    ev.SignalReceived: (_LIVE, shutdown.signal_received),
    ev.PreemptionNotice: (frozenset({_S, _R, _RUN, _B}), shutdown.preemption_notice),
    ev.InternalError: (_LIVE, shutdown.internal_error),
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
    if type(event) is ev.TimerFired:
        session, commands = _fire_timers(session, now)
    else:
        phases, handler = TABLE.get(type(event), _DEAF)
        session, commands = handler(session, event, now) if session.phase in phases else (session, ())
    if session.phase is Phase.DRAINING:
        session, more = shutdown.advance(session, now)
        commands = (*commands, *more)
    session = session.with_(seen_s=now.mono_s)
    if woken:
        commands = (*woken, *commands)
    if type(event) is not ev.SessionStarted and _unchanged(before, session):
        return session, commands
    session = session.timed(drain=_drain_time(session))
    return session, (*commands, *_with_state_published(before, session, event))


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
    if not watched or trainer.heartbeats.moved_at_s + shortest(policy) > by_s:
        return None
    return hang_deadline(trainer.heartbeats, policy)


def _drain_time(session: Session) -> float | None:
    end_s = lifetime_end(session)
    if end_s is None or session.drain_requested or session.phase not in _WORKING:
        return None
    saves, longest = session.saves, session.trainer.heartbeats.longest_s
    life_s = end_s - session.started_s
    save_s = saves.stall_s + saves.write_s
    return session.started_s + drain_at(life_s, save_s=save_s, upload_s=saves.upload_s, step_s=longest.get("step", 0.0))


def _fire_timers(session: Session, now: Instant) -> Outcome:
    commands: tuple[do.Command, ...] = ()
    now_s = now.mono_s
    for name in [name for name, at in vars(session.timers).items() if at is not None and now_s >= at]:
        at = getattr(session.timers, name)
        if at is not None and now_s >= at:  # what was done first may have put it off
            session, more = _DUE[name](session, now)
            commands = (*commands, *more)
    at = _hang_time(session, now_s)
    if at is not None and now_s >= at:
        session, more = running.on_silence(session, now)
        commands = (*commands, *more)
    return session, commands


def _inspect(session: Session, _now: Instant) -> Outcome:
    return session.timed(inspect=None), (do.InspectRun(),)


def _save(session: Session, now: Instant) -> Outcome:
    return saving.request_save(session, "due", now)


def _check_fence(session: Session, _now: Instant) -> Outcome:
    return session.timed(fence=None), (do.CheckFence(),)


def _write_journal(session: Session, _now: Instant) -> Outcome:
    return session.timed(journal=None), (do.WriteJournal(),)


def _upload(session: Session, _now: Instant) -> Outcome:
    return saving.upload_next(session.timed(upload=None))


def _kill(session: Session, _now: Instant) -> Outcome:
    return session.timed(kill=None), (do.SignalTrainer("kill"),) if session.trainer.alive else ()


def _drain(session: Session, now: Instant) -> Outcome:
    session = session.with_(drain_requested=True)
    life = session.config.time_limit
    if life is not None and life.hard:
        return shutdown.hand_over(session, now)
    said = do.Notify("info", "this machine may end soon: saving now, then going on until it really ends")
    session, commands = saving.request_save(session, "deadline", now)
    return session, (said, *commands)


def _after_gap(session: Session, now: Instant) -> Outcome:
    """A process that slept, was paused or suspended may have been replaced meanwhile: look before writing anything."""
    if now.mono_s - session.seen_s < GAP_S or session.session_id is None or session.seen_s == 0.0:
        return session, ()
    if now.mono_s - next_wakeup(session) < GAP_S:
        return session, ()
    gap_s = now.mono_s - session.seen_s
    trainer = session.trainer.with_(heartbeats=replace(session.trainer.heartbeats, moved_at_s=now.mono_s))
    session = session.with_(writes_suspended=True, writes_suspended_s=now.mono_s, trainer=trainer).timed(fence=None)
    said = do.Notify(
        "warning", f"this process stood still for {gap_s:.0f} s", "looking whether another machine took over"
    )
    return session, (said, do.CheckFence())


def _unchanged(before: Session, after: Session) -> bool:
    """Say whether nothing changed that the time of the drain or the announcement is made of, as with most events."""
    return (
        before.saves is after.saves
        and before.phase is after.phase
        and before.timers.save == after.timers.save
        and before.trainer.heartbeats.longest_s is after.trainer.heartbeats.longest_s
        and before.trainer.attempt == after.trainer.attempt
        and before.drain_requested == after.drain_requested
        and before.ending is after.ending
        and before.history is after.history
        and before.recoveries == after.recoveries
        and before.cause == after.cause
        and before.resumed_step == after.resumed_step
        and before.started_s == after.started_s
    )


def _with_state_published(before: Session, after: Session, event: ev.Event) -> tuple[do.Command, ...]:
    shown = _published_state(after)
    return (do.PublishState(**shown),) if type(event) is ev.SessionStarted or shown != _published_state(before) else ()


def _published_state(session: Session) -> dict[str, Any]:
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
    "inspect": _inspect,
    "retry": startup.retry,
    "save": _save,
    "fence": _check_fence,
    "journal": _write_journal,
    "upload": _upload,
    "confirm": saving.confirm,
    "terminate": shutdown.terminate,
    "kill": _kill,
    "give_up_waiting": shutdown.waited_enough,
    "drain": _drain,
    "leave": script_end.leave,
}
