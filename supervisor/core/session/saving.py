"""Checkpoints on their way: staged by the trainer, submitted, DURABLE, retained. One upload at a time, newest waits.

On a store whose evidence comes later, what was submitted is asked about every ``Config.confirm_every_s`` (do.Confirm).
Age proves nothing: it only changes what is said, and at last which checkpoint is sent instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.humanize import duration
from supervisor.core.policy import rollback
from supervisor.core.policy import save_interval as interval_policy
from supervisor.core.policy.recovery import WaitExponential
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import Phase, SaveProgress, Session, save_interval
from supervisor.core.wire import messages

if TYPE_CHECKING:
    from supervisor.core.clock import Instant
    from supervisor.core.session.decision import Outcome

FIRST_SAVE_S = 5.0
RETRY_SAVE_S = 30.0
REQUEST_AGAIN_S = 120.0
SLOW_SHARE = 0.3  # of a new measurement in the mean: one save's steps are few, and their times scatter
WARN_AFTER_S = 120.0  # of waiting for a proof; then again after twice the time
STUCK_AFTER_S = 900.0  # an upload that is proved in no such time makes way for a newer one
STUCK_FACTOR = 5.0  # unless uploads take that long here: so many times the longest seen
UPLOAD_RETRY = WaitExponential(multiplier=1.0, max=60.0)


def confirm_inherited(session: Session, folder: str, step: int, now: Instant) -> Outcome:
    """A dead session of this machine wrote the checkpoint that the run goes on from, and nobody has proved it: ask.

    It gives way to the first one of our own, whose proof says more. Until then the run's end waits for it.
    """
    saves = session.saves.with_(
        newest=folder, newest_step=step, uploading=folder, next_upload_step=step, inherited=folder,
        written_s=now.mono_s, pending_warning_s=now.mono_s + _warn_after(session),
    )  # fmt: skip
    session, every_s = session.with_(saves=saves), session.config.confirm_every_s
    if every_s:
        return session.timed(confirm=now.mono_s + every_s), ()
    return session.timed(confirm=now.mono_s), ()


def on_staged(session: Session, said: messages.CheckpointStaged, now: Instant) -> Outcome:
    """A whole checkpoint lies on the local disk: publish it, or let it wait as the newest."""
    saves = session.saves
    if saves.inherited and saves.uploading == saves.inherited:
        saves = saves.with_(uploading="", written_s=None)
    kept = {saves.uploading, said.folder}
    dropped = [folder for folder in dict.fromkeys((saves.next_upload, saves.newest)) if folder and folder not in kept]
    saves = saves.with_(
        newest=said.folder,
        newest_step=said.step,
        next_upload=said.folder,
        next_upload_step=said.step,
        save_requested=False,
        save_error="",
        step_known=said.step_known,
        last_at_s=now.mono_s,
        stall_s=max(said.stall_s, saves.stall_s * 0.9),
        write_s=max(said.write_s, saves.write_s * 0.9),
        slow_s=said.slow_s if saves.last_at_s == 0 else saves.slow_s + SLOW_SHARE * (said.slow_s - saves.slow_s),
    )
    session = _rearmed(session.with_(saves=saves), now)
    session, commands = upload_next(session)
    return session, (*(do.DeleteStaged(folder) for folder in dropped), *commands)


def on_save_failed(session: Session, said: messages.SaveFailed, now: Instant) -> Outcome:
    """A failed save is an event, not the end of a run: say so and try again."""
    every = save_interval(session)
    wait_s = min(RETRY_SAVE_S, every.every_s if every else RETRY_SAVE_S)
    session = session.with_(saves=session.saves.with_(save_requested=False, save_error=said.error)).timed(
        save=now.mono_s + wait_s
    )
    return session, (do.Notify("warning", f"the save at step {said.step:,} failed: {said.error}", "training goes on"),)


def request_save(session: Session, reason: str, now: Instant) -> Outcome:
    """Ask the trainer for a checkpoint at its next step boundary.

    It is asked again after a while without one, because a trainer that has not attached yet hears nothing.
    """
    if not session.trainer.alive:
        return session.timed(save=None), ()
    if not session.saves.save_requested:
        session = session.with_(saves=session.saves.with_(save_requested=True))
    return session.timed(save=now.mono_s + REQUEST_AGAIN_S), (do.SendToTrainer(messages.SaveRequest(reason)),)


def upload_next(session: Session) -> Outcome:
    """Start the waiting upload if none is on its way and nothing speaks against writing."""
    saves = session.saves
    if saves.uploading or not saves.next_upload or session.writes_suspended or session.timers.upload is not None:
        return session, ()
    command = do.UploadCheckpoint(saves.next_upload, saves.next_upload_step)
    # one that was inherited and is sent by this session now gives way to no other: at most one upload is in flight (I17)
    inherited = "" if saves.next_upload == saves.inherited else saves.inherited
    return session.with_(saves=saves.with_(uploading=saves.next_upload, next_upload="", inherited=inherited)), (
        command,
    )


def on_written(session: Session, event: ev.CheckpointWritten, now: Instant) -> Outcome:
    """The files are written, not yet proved: nothing may be called saved. Ask for the proof, where it comes later."""
    if event.folder != session.saves.uploading:
        return session, ()
    saves = session.saves.with_(written_s=now.mono_s, pending_warning_s=now.mono_s + _warn_after(session))
    every_s = session.config.confirm_every_s
    return session.with_(saves=saves).timed(confirm=now.mono_s + every_s if every_s else None), ()


def confirm(session: Session, _now: Instant) -> Outcome:
    """Ask for the evidence on what is on its way, unless nothing may be written now: the manifest may be next."""
    session = session.timed(confirm=None)
    if session.writes_suspended or not session.saves.uploading:
        return session, ()
    return session, (do.ConfirmDurability(session.saves.uploading),)


def request_save_again(session: Session, now: Instant) -> Session:
    """Ask soon for the evidence on what was submitted before the store went away."""
    later = session.config.confirm_every_s or session.saves.inherited
    if session.saves.written_s is None or not later:
        return session
    return session.timed(confirm=now.mono_s)


def on_pending(session: Session, event: ev.DurabilityPending, now: Instant) -> Outcome:
    """Go on asking; say so when it takes long; send a newer one instead when it takes far too long."""
    saves = session.saves
    if event.folder != saves.uploading:
        return session, ()
    since_s = now.mono_s - (now.mono_s if saves.written_s is None else saves.written_s)
    slow = event.progressing or not event.confirmable
    if saves.next_upload and not slow and since_s > max(STUCK_AFTER_S, STUCK_FACTOR * saves.upload_s):
        saves = saves.with_(uploading="", written_s=None)
        session, commands = upload_next(session.with_(saves=saves))
        dropped = (do.DeleteStaged(event.folder),) if event.folder != saves.newest else ()
        return session, (*dropped, *commands)
    if not event.confirmable:
        saves = saves.with_(uploading="", written_s=None, unconfirmed=event.folder)
        return upload_next(session.with_(saves=saves))
    session = session.timed(confirm=now.mono_s + session.config.confirm_every_s)
    if event.progressing:
        saves = saves.with_(written_s=now.mono_s)  # a slow way must not make each one give way to the next
        session = session.with_(saves=saves)
    if now.mono_s < saves.pending_warning_s:
        return session, ()
    session = session.with_(saves=saves.with_(pending_warning_s=now.mono_s + since_s))
    words = f"written but not safe for {duration(since_s)}: {event.reason}"
    return session, (do.Notify("warning", words, f"training goes on; {_safe(saves)}"),)


def on_durable(session: Session, event: ev.CheckpointDurable, now: Instant) -> Outcome:
    """Proved: this is the only place where something becomes safe."""
    first = session.saves.durable is None or session.saves.durable.generation != event.id.generation
    saves = session.saves.with_(
        uploading="" if event.folder == session.saves.uploading else session.saves.uploading,
        written_s=None,
        unconfirmed="",
        durable=event.id,
        failures=0,
        upload_s=max(event.upload_s, session.saves.upload_s * 0.9),
    )
    session = session.with_(saves=saves)
    if (
        session.active_rollbacks
        and session.first_durable_past_anomaly is None
        and rollback.is_past(session.active_rollbacks, event.id.step)
    ):
        session = session.with_(first_durable_past_anomaly=event.id.step)
    commands: tuple[do.Command, ...] = ()
    if event.folder != saves.newest:
        commands += (do.DeleteStaged(event.folder),)
    if (
        first
        and session.trainer.alive
        and session.config.save_every.unit == "auto"
        and (every := save_interval(session))
    ):
        commands += (do.Notify("info", interval_policy.describe(every)),)
    # removing takes long on a drive: the next upload goes first, and at the end of a run nothing waits for it
    session, more = upload_next(session)
    hurried = session.phase is Phase.DRAINING and bool(more)
    # what is withdrawn, or may be, must not count for what makes older checkpoints superfluous
    troubled = session.rollback or rollback.must_keep_older(
        session.active_rollbacks, began=session.resumed_step, passed=session.first_durable_past_anomaly
    )
    if not (session.writes_suspended or session.phase is Phase.FENCED or hurried or troubled):
        more += (do.Prune(),)
    return _rearmed(session, now), (*commands, *more)


def on_upload_failed(session: Session, event: ev.UploadFailed, now: Instant) -> Outcome:
    """Keep the staged files and try again later; a newer one that waits takes the turn."""
    saves = session.saves
    if event.folder != saves.uploading:
        return session, ()  # a late answer about one that is through: another may be on its way by now
    superseded = bool(saves.next_upload) or event.permanent
    saves = saves.with_(
        uploading="",
        written_s=None,
        newest="" if event.permanent and saves.newest == event.folder else saves.newest,
        save_error=event.error if event.permanent and saves.newest == event.folder else saves.save_error,
        next_upload=saves.next_upload or ("" if event.permanent else event.folder),
        failures=saves.failures + 1,
    )
    wait_s = UPLOAD_RETRY(saves.failures)
    session = session.with_(saves=saves).timed(upload=now.mono_s + wait_s, confirm=None)
    commands: tuple[do.Command, ...] = ()
    if superseded and event.folder != saves.newest:
        commands = (do.DeleteStaged(event.folder),)
    if saves.failures & (saves.failures - 1):
        return session, commands  # a store that is away for hours is said at the tries 1, 2, 4, 8 ...
    tries = f" ({saves.failures} tries)" if saves.failures > 1 else ""
    words = f"the checkpoint could not be put into the store{tries}: {event.error}"
    return session, (*commands, do.Notify("warning", words, f"trying again in {wait_s:.0f} s; {_safe(saves)}"))


def on_pruned(session: Session, event: ev.Pruned | ev.PruneFailed, _now: Instant) -> Outcome:
    """Removing old checkpoints matters only for space: a failure is said and tried again after the next save."""
    if isinstance(event, ev.PruneFailed):
        return session, (do.Notify("warning", f"old checkpoints could not be removed: {event.error}"),)
    return session, ()


def first_save_due(session: Session, now: Instant) -> Session:
    """Arm the first save of an attempt: early in "auto", because only a save tells what a save costs."""
    unit, value = session.config.save_every.unit, session.config.save_every.value
    wait_s = {"auto": FIRST_SAVE_S, "s": value}.get(unit)
    return session.timed(save=None if wait_s is None else now.mono_s + wait_s)


def _safe(saves: SaveProgress) -> str:
    return f"safe is {saves.durable}" if saves.durable else "nothing of this session is safe in the store yet"


def _warn_after(session: Session) -> float:
    return max(WARN_AFTER_S, 2 * session.saves.upload_s)


def _rearmed(session: Session, now: Instant) -> Session:
    if session.saves.save_requested:
        return session
    every = save_interval(session)
    if every is None or not session.trainer.alive:
        return session.timed(save=None)
    return session.timed(save=max(session.saves.last_at_s + every.every_s, now.mono_s + 0.1))
