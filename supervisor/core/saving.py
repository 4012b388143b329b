"""Checkpoints on their way: staged by the trainer, submitted, DURABLE, retained. One upload at a time, newest waits.

On a store whose evidence comes later, what was submitted is asked about every ``Config.confirm_every_s`` (do.Confirm).
Age proves nothing: it only changes what is said, and at last which checkpoint is sent instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import interval, messages, rollback
from supervisor.core.recovery import WaitExponential
from supervisor.core.session import Phase, Saves, Session, save_interval
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome

FIRST_SAVE_S = 5.0
RETRY_SAVE_S = 30.0
ASK_AGAIN_S = 120.0
SLOW_SHARE = 0.3  # of a new measurement in the mean: one save's steps are few, and their times scatter
WARN_AFTER_S = 120.0  # of waiting for a proof; then again after twice the time
STUCK_AFTER_S = 900.0  # an upload that is proved in no such time makes way for a newer one
STUCK_FACTOR = 5.0  # unless uploads take that long here: so many times the longest seen
PUBLISH_WAIT = WaitExponential(multiplier=1.0, max=60.0)


def inherited(session: Session, folder: str, step: int, now: Instant) -> Outcome:
    """A dead session of this machine wrote the checkpoint that the run goes on from, and nobody has proved it: ask.

    It gives way to the first one of our own, whose proof says more. Until then the run's end waits for it.
    """
    saves = session.saves.with_(
        newest=folder, newest_step=step, publishing=folder, waiting_step=step, inherited=folder,
        submitted_at_s=now.mono_s, warn_at_s=now.mono_s + _warn_after(session),
    )  # fmt: skip
    session, every_s = session.with_(saves=saves), session.config.confirm_every_s
    if every_s:
        return session.timed(confirm=now.mono_s + every_s), ()
    return session.timed(confirm=now.mono_s), ()


def staged(session: Session, said: messages.Staged, now: Instant) -> Outcome:
    """A whole checkpoint lies on the local disk: publish it, or let it wait as the newest."""
    saves = session.saves
    if saves.inherited and saves.publishing == saves.inherited:
        saves = saves.with_(publishing="", submitted_at_s=None)
    kept = {saves.publishing, said.folder}
    dropped = [folder for folder in dict.fromkeys((saves.waiting, saves.newest)) if folder and folder not in kept]
    saves = saves.with_(
        newest=said.folder,
        newest_step=said.step,
        waiting=said.folder,
        waiting_step=said.step,
        asked=False,
        lost="",
        counted=said.counted,
        last_at_s=now.mono_s,
        stall_s=max(said.stall_s, saves.stall_s * 0.9),
        write_s=max(said.write_s, saves.write_s * 0.9),
        slow_s=said.slow_s if saves.last_at_s == 0 else saves.slow_s + SLOW_SHARE * (said.slow_s - saves.slow_s),
    )
    session = _rearmed(session.with_(saves=saves), now)
    session, commands = publish_next(session)
    return session, (*(do.Discard(folder) for folder in dropped), *commands)


def save_failed(session: Session, said: messages.SaveFailed, now: Instant) -> Outcome:
    """A failed save is an event, not the end of a run: say so and try again."""
    every = save_interval(session)
    wait_s = min(RETRY_SAVE_S, every.every_s if every else RETRY_SAVE_S)
    session = session.with_(saves=session.saves.with_(asked=False, lost=said.error)).timed(save=now.mono_s + wait_s)
    return session, (do.Say("warning", f"the save at step {said.step:,} failed: {said.error}", "training goes on"),)


def ask_for_save(session: Session, reason: str, now: Instant) -> Outcome:
    """Ask the trainer for a checkpoint at its next step boundary.

    It is asked again after a while without one, because a trainer that has not attached yet hears nothing.
    """
    if not session.trainer.alive:
        return session.timed(save=None), ()
    if not session.saves.asked:
        session = session.with_(saves=session.saves.with_(asked=True))
    return session.timed(save=now.mono_s + ASK_AGAIN_S), (do.Tell(messages.Save(reason)),)


def publish_next(session: Session) -> Outcome:
    """Start the waiting upload if none is on its way and nothing speaks against writing."""
    saves = session.saves
    if saves.publishing or not saves.waiting or session.frozen or session.timers.publish is not None:
        return session, ()
    command = do.Publish(saves.waiting, saves.waiting_step)
    # one that was inherited and is sent by this session now gives way to no other: at most one upload is in flight (I17)
    inherited = "" if saves.waiting == saves.inherited else saves.inherited
    return session.with_(saves=saves.with_(publishing=saves.waiting, waiting="", inherited=inherited)), (command,)


def submitted(session: Session, event: ev.Submitted, now: Instant) -> Outcome:
    """The files are written, not yet proved: nothing may be called saved. Ask for the proof, where it comes later."""
    if event.folder != session.saves.publishing:
        return session, ()
    saves = session.saves.with_(submitted_at_s=now.mono_s, warn_at_s=now.mono_s + _warn_after(session))
    every_s = session.config.confirm_every_s
    return session.with_(saves=saves).timed(confirm=now.mono_s + every_s if every_s else None), ()


def confirm(session: Session, _now: Instant) -> Outcome:
    """Ask for the evidence on what is on its way, unless nothing may be written now: the manifest may be next."""
    session = session.timed(confirm=None)
    if session.frozen or not session.saves.publishing:
        return session, ()
    return session, (do.Confirm(session.saves.publishing),)


def ask_again(session: Session, now: Instant) -> Session:
    """Ask soon for the evidence on what was submitted before the store went away."""
    later = session.config.confirm_every_s or session.saves.inherited
    if session.saves.submitted_at_s is None or not later:
        return session
    return session.timed(confirm=now.mono_s)


def unconfirmed(session: Session, event: ev.Unconfirmed, now: Instant) -> Outcome:
    """Go on asking; say so when it takes long; send a newer one instead when it takes far too long."""
    saves = session.saves
    if event.folder != saves.publishing:
        return session, ()
    since_s = now.mono_s - (now.mono_s if saves.submitted_at_s is None else saves.submitted_at_s)
    slow = event.moving or not event.possible
    if saves.waiting and not slow and since_s > max(STUCK_AFTER_S, STUCK_FACTOR * saves.upload_s):
        saves = saves.with_(publishing="", submitted_at_s=None)
        session, commands = publish_next(session.with_(saves=saves))
        dropped = (do.Discard(event.folder),) if event.folder != saves.newest else ()
        return session, (*dropped, *commands)
    if not event.possible:
        saves = saves.with_(publishing="", submitted_at_s=None, unproved=event.folder)
        return publish_next(session.with_(saves=saves))
    session = session.timed(confirm=now.mono_s + session.config.confirm_every_s)
    if event.moving:
        saves = saves.with_(submitted_at_s=now.mono_s)  # a slow way must not make each one give way to the next
        session = session.with_(saves=saves)
    if now.mono_s < saves.warn_at_s:
        return session, ()
    session = session.with_(saves=saves.with_(warn_at_s=now.mono_s + since_s))
    words = f"written but not safe for {duration(since_s)}: {event.words}"
    return session, (do.Say("warning", words, f"training goes on; {_safe(saves)}"),)


def durable(session: Session, event: ev.Durable, now: Instant) -> Outcome:
    """Proved: this is the only place where something becomes safe."""
    first = session.saves.durable is None or session.saves.durable.epoch != event.id.epoch
    saves = session.saves.with_(
        publishing="" if event.folder == session.saves.publishing else session.saves.publishing,
        submitted_at_s=None,
        unproved="",
        durable=event.id,
        failures=0,
        upload_s=max(event.upload_s, session.saves.upload_s * 0.9),
    )
    session = session.with_(saves=saves)
    if session.rolled and session.passed is None and rollback.beyond(session.rolled, event.id.step):
        session = session.with_(passed=event.id.step)
    commands: tuple[do.Command, ...] = ()
    if event.folder != saves.newest:
        commands += (do.Discard(event.folder),)
    if (
        first
        and session.trainer.alive
        and session.config.save_every.unit == "auto"
        and (every := save_interval(session))
    ):
        commands += (do.Say("info", interval.words(every)),)
    # removing takes long on a drive: the next upload goes first, and at the end of a run nothing waits for it
    session, more = publish_next(session)
    hurried = session.phase is Phase.DRAINING and bool(more)
    # what is withdrawn, or may be, must not count for what makes older checkpoints superfluous
    troubled = session.rollback or rollback.needs_older(
        session.rolled, began=session.resumed_step, passed=session.passed
    )
    if not (session.frozen or session.phase is Phase.FENCED or hurried or troubled):
        more += (do.Retain(),)
    return _rearmed(session, now), (*commands, *more)


def publish_failed(session: Session, event: ev.PublishFailed, now: Instant) -> Outcome:
    """Keep the staged files and try again later; a newer one that waits takes the turn."""
    saves = session.saves
    if event.folder != saves.publishing:
        return session, ()  # a late answer about one that is through: another may be on its way by now
    superseded = bool(saves.waiting) or event.hopeless
    saves = saves.with_(
        publishing="",
        submitted_at_s=None,
        newest="" if event.hopeless and saves.newest == event.folder else saves.newest,
        lost=event.error if event.hopeless and saves.newest == event.folder else saves.lost,
        waiting=saves.waiting or ("" if event.hopeless else event.folder),
        failures=saves.failures + 1,
    )
    wait_s = PUBLISH_WAIT(saves.failures)
    session = session.with_(saves=saves).timed(publish=now.mono_s + wait_s, confirm=None)
    commands: tuple[do.Command, ...] = ()
    if superseded and event.folder != saves.newest:
        commands = (do.Discard(event.folder),)
    if saves.failures & (saves.failures - 1):
        return session, commands  # a store that is away for hours is said at the tries 1, 2, 4, 8 ...
    tries = f" ({saves.failures} tries)" if saves.failures > 1 else ""
    words = f"the checkpoint could not be put into the store{tries}: {event.error}"
    return session, (*commands, do.Say("warning", words, f"trying again in {wait_s:.0f} s; {_safe(saves)}"))


def retained(session: Session, event: ev.Retained | ev.RetainFailed, _now: Instant) -> Outcome:
    """Removing old checkpoints matters only for space: a failure is said and tried again after the next save."""
    if isinstance(event, ev.RetainFailed):
        return session, (do.Say("warning", f"old checkpoints could not be removed: {event.error}"),)
    return session, ()


def first_save_due(session: Session, now: Instant) -> Session:
    """Arm the first save of an attempt: early in "auto", because only a save tells what a save costs."""
    unit, value = session.config.save_every.unit, session.config.save_every.value
    wait_s = {"auto": FIRST_SAVE_S, "s": value}.get(unit)
    return session.timed(save=None if wait_s is None else now.mono_s + wait_s)


def _safe(saves: Saves) -> str:
    return f"safe is {saves.durable}" if saves.durable else "nothing of this session is safe in the store yet"


def _warn_after(session: Session) -> float:
    return max(WARN_AFTER_S, 2 * session.saves.upload_s)


def _rearmed(session: Session, now: Instant) -> Session:
    if session.saves.asked:
        return session
    every = save_interval(session)
    if every is None or not session.trainer.alive:
        return session.timed(save=None)
    return session.timed(save=max(session.saves.last_at_s + every.every_s, now.mono_s + 0.1))
