"""From the first look at the store to a running trainer: claim, settle, look again, prepare, restore, launch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core import claim, errors, recovery
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.ending import begin, begin_fenced, finish_at_once
from supervisor.core.liveness import Vitals
from supervisor.core.saving import inherited, publish_next
from supervisor.core.session import Ending, Phase, Session, Trainer
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome

LOOK_AGAIN_S = 2.0
SETTLE_SAID_S = 5.0
NOTHING_THERE = "there is no checkpoint to resume from, and --resume must was asked for"
NOTHING_THERE_HINT = "is this the store of the run, and its name? To begin a new run leave --resume must out"
NOT_THE_SAME = (
    "what follows may not be bit for bit what that session would have computed; --resume never begins at step 0"
)
FROM_THE_START = "to train from the start: add --resume never (the same run), or --name OTHER (a run of its own)"
KNOCK_AFTER_S = 90.0  # of silence after a sign: who lives closes a piece of its journal more often than that


def started(session: Session, _event: ev.Started, now: Instant) -> Outcome:
    """Begin: look who has been here. A settle time that is too short for the store is said first."""
    session, config = session.with_(started_s=now.mono_s, rival_since_s=now.mono_s), session.config
    if config.settle_s >= config.safe_settle_s:
        return session, (do.Look(),)
    words = (
        f"--settle {duration(config.settle_s)} is less than the {duration(config.safe_settle_s)} by which {config.place or 'this drive'} may show"
        " files late: this start may miss newer checkpoints and compute their steps again, or push out a machine that is training"
    )
    return session, (
        do.Say("warning", words, f"safe is --settle {config.safe_settle_s:.0f}s, or no --settle"),
        do.Look(),
    )


def looked(session: Session, event: ev.Looked, now: Instant) -> Outcome:
    """Before the claim: wait for a live rival or claim. After it: are we still the highest."""
    if session.rank is not None:
        return _settled(session, event, session.rank)
    last = event.last
    finished = last and last.end == "succeeded" and event.same_job and session.config.resume != "never"
    if finished and not event.lost:
        return _finished_already(session, event)
    asked = session.knocked_s is not None
    session, first_seen = _watch_rival(session, last, now)
    if last is None or session.config.takeover or _silent(session, last, now):
        said = do.Say("warning", f"this run had finished, but {event.lost}", "going on from the newest undamaged one")
        return session, (*((said,) if finished else ()), do.WriteClaim(claim.next_epoch(event.names)))
    session = session.timed(look=now.mono_s + LOOK_AGAIN_S)
    commands: tuple[do.Command, ...] = ()
    if first_seen:
        words = f"session {last.rank.epoch} of this run may live on another machine or process: asking it for a sign"
        hint = f"waiting until it ends or gives none for {session.config.answer_s:.0f} s; to take over now: --takeover"
        commands = (do.Say("warning", words, hint),)
    elif asked and session.knocked_s is None:
        words = f"session {last.rank.epoch} has shown a new name in the store: it lives, or the name came late"
        hint = f"it is asked again after {KNOCK_AFTER_S:.0f} s of silence; to take over now: --takeover"
        commands = (do.Say("info", words, hint),)
    if not session.knocking and (first_seen or now.mono_s - session.rival_since_s >= KNOCK_AFTER_S):
        session, commands = session.with_(knocking=True), (*commands, do.Knock(last.rank.epoch, last.rank.writer))
    if not session.preparing:  # the time of waiting is time to install what the job needs
        session, commands = session.with_(preparing=True), (*commands, do.PrepareEnvironment())
    return session, commands


def _finished_already(session: Session, event: ev.Looked) -> Outcome:
    """There is nothing to do. Say how to train all the same, and whether the script is still the one that finished."""
    words = "this run is finished already"
    if event.changed:
        words += f"; {event.changed} since"
    ending = Ending(Phase.SUCCEEDED, errors.SUCCEEDED, "succeeded", words, hint=FROM_THE_START)
    session, commands = finish_at_once(session.with_(ending=ending))
    return session, (do.Say("info", words, FROM_THE_START), *commands)


def knocked(session: Session, event: ev.Knocked, now: Instant) -> Outcome:
    """Count the silence from here: whoever lives answers now. A question that could not be put is no question."""
    return session.with_(knocked_s=None if event.error else now.mono_s), ()


def claim_written(session: Session, event: ev.ClaimWritten, now: Instant) -> Outcome:
    """Prepare the environment while other machines' claims have time to show."""
    timers = replace(
        session.timers,
        look=now.mono_s + session.config.settle_s,
        fence=now.mono_s + session.config.settle_s + session.config.fence_every_s,
        journal=now.mono_s + session.config.journal_every_s,
    )
    commands: tuple[do.Command, ...] = () if session.preparing else (do.PrepareEnvironment(),)
    if session.config.settle_s >= SETTLE_SAID_S:
        words = f"for {duration(session.config.settle_s)} what other machines wrote may still come to show in the store"
        commands = (do.Say("info", words, "waiting for that and preparing meanwhile; --settle changes it"), *commands)
    return session.with_(rank=event.rank, timers=timers, preparing=True), commands


def environment_ready(session: Session, event: ev.EnvironmentReady, _now: Instant) -> Outcome:
    """Say what differs from the last machine; launch if the checkpoint is here too."""
    said = tuple(do.Say("info", words) for words in event.drift)
    session, commands = _proceed(session.with_(environment_ready=True), ())
    return session, (*said, *commands)


def history_read(session: Session, event: ev.HistoryRead, _now: Instant) -> Outcome:
    """Know how earlier machines lived and ended; then bring the checkpoint."""
    vitals = replace(session.trainer.vitals, longest_s=event.longest_s)
    session = session.with_(history=event, trainer=session.trainer.with_(vitals=vitals))
    if recovery.lost_machines_exceeded(event.lost_in_a_row, session.config.restarts):
        words = f"{event.lost_in_a_row} machines in a row were lost without a new checkpoint"
        hint = "find out why (`logs`, `status`), then start with a larger --max-preemptions"
        return begin(session, Ending(Phase.FAILED, errors.NO_PROGRESS, "no-progress", words, hint=hint))
    said = (do.Say("info", event.words),) if event.words else ()
    return session, (*said, do.Restore(afresh=session.config.resume == "never"))


def lives_read(session: Session, event: ev.LivesRead, _now: Instant) -> Outcome:
    """Plan with what all runs of this account lost, not this one alone."""
    history = replace(session.history, reclaimed_s=(*event.reclaimed_s, *session.history.reclaimed_s))
    return session.with_(history=history), ()


def machine_seen(session: Session, event: ev.MachineSeen, _now: Instant) -> Outcome:
    """Say once on what the run goes on here."""
    return session, (do.Say("info", event.words, event.advice),)


def restored(session: Session, event: ev.CheckpointReady, now: Instant) -> Outcome:
    """Take the restored step as the mark that progress is measured from."""
    step = event.id.step if event.id else 0
    if event.id is None and session.config.resume == "must":
        ending = Ending(Phase.FAILED, errors.FAILED_PRECHECKS, "failed", NOTHING_THERE, hint=NOTHING_THERE_HINT)
        return begin(session, ending)
    saves = session.saves
    if event.id is not None and event.durable and saves.durable is None:
        saves = saves.with_(durable=event.id)
    session = session.with_(checkpoint=event.folder, saves=saves, base_step=step if event.files else None)
    if session.trainer.attempt == 0:
        session = session.with_(resumed_step=step, progress_step=step, rolled=event.rolled)
    said: list[do.Command] = [do.Say("warning", words) for words in event.skipped]
    said.append(do.Say("info", _where(session, event, step)))
    if event.id is not None and event.changed and session.trainer.attempt == 0:
        said.append(do.Say("warning", event.changed, NOT_THE_SAME))
    session, published = _adopted(session, event, step) if event.adopted else _inherited(session, event, now)
    session, commands = _proceed(session, ())
    return session, (*said, *published, *commands)


def launched(session: Session, _event: ev.Launched, now: Instant) -> Outcome:
    """The trainer runs: judge it by its beats from now on."""
    vitals = Vitals("start", now.mono_s, 0, session.trainer.vitals.longest_s)
    trainer = Trainer(attempt=session.trainer.attempt, alive=True, vitals=vitals)
    if session.phase is Phase.DRAINING:
        return session.with_(trainer=trainer), (do.EndTrainer("kill"),)
    return session.with_(phase=Phase.RUNNING, trainer=trainer), ()


def setup_failed(session: Session, event: ev.SetupFailed, _now: Instant) -> Outcome:
    """A person has to act: end with their two lines. Without a claim nothing is recorded."""
    said = do.Say("error", event.what, event.hint)
    ending = Ending(Phase.FAILED, event.exit_code, "failed", event.what, hint=event.hint)
    session, commands = begin(session, ending)
    return session, (said, *commands)


def retry(session: Session, _now: Instant) -> Outcome:
    """The back-off is over: restore (from the local disk, mostly) and launch again."""
    session = session.timed(retry=None).with_(phase=Phase.RESTORING, checkpoint=None)
    return session, (do.Restore(),)


def _adopted(session: Session, event: ev.CheckpointReady, step: int) -> Outcome:
    """Publish what a dead session left. It counts as our newest, because the trainer restores from that folder."""
    saves = session.saves
    if event.folder in {saves.publishing, saves.waiting}:
        return session, ()
    saves = saves.with_(newest=event.folder, newest_step=step, waiting=event.folder, waiting_step=step)
    return publish_next(session.with_(saves=saves))


def _inherited(session: Session, event: ev.CheckpointReady, now: Instant) -> Outcome:
    """Have the checkpoint proved that a dead session wrote and that the run goes on from: it may end with it."""
    if event.durable or event.id is None or session.trainer.attempt or event.id.rank == session.rank:
        return session, ()
    return inherited(session, event.folder, event.id.step, now)


def _where(session: Session, event: ev.CheckpointReady, step: int) -> str:
    if event.id is None:
        if session.config.resume == "never":
            return "beginning at step 0"
        earlier = session.history.words or session.trainer.attempt
        why = "no checkpoint of the earlier work is there" if earlier else "there is no earlier work"
        return f"beginning at step 0: {why}"
    reached, step_s = session.history.last_step, session.history.step_s
    words = f"going on from step {step:,}, verified"
    if event.files:
        words = f"the script's files of {'step' if event.counted else 'snapshot'} {step:,} are here, verified"
    if session.trainer.attempt == 0 and reached is not None and reached > step:
        seconds = f" (about {(reached - step) * step_s:.0f} s of work)" if step_s else ""
        words += f"; {reached - step:,} steps{seconds} are computed again"
    return words


def _proceed(session: Session, commands: tuple[do.Command, ...]) -> Outcome:
    if not (session.environment_ready and session.settled and session.checkpoint is not None):
        return session, commands
    if session.phase is not Phase.RESTORING:
        return session, commands
    attempt = session.trainer.attempt + 1
    session = session.with_(trainer=session.trainer.with_(attempt=attempt))
    return session, (*commands, do.Launch(attempt, session.checkpoint or "", session.rolled))


def _settled(session: Session, event: ev.Looked, mine: claim.Rank) -> Outcome:
    by = claim.judge(event.names, mine)
    if by is not None:
        return begin_fenced(session, by)
    return _proceed(session.with_(settled=True, phase=Phase.RESTORING), (do.ReadHistory(),))


def _silent(session: Session, last: claim.Sighting, now: Instant) -> bool:
    since_s, enough_s = session.rival_since_s, session.config.silence_s
    if session.knocked_s is not None:
        since_s, enough_s = max(since_s, session.knocked_s), session.config.answer_s
    return claim.may_succeed(last, silent_s=now.mono_s - since_s, silence_s=enough_s)


def _watch_rival(session: Session, last: claim.Sighting | None, now: Instant) -> tuple[Session, bool]:
    if last is None:
        return session, False
    seen = (last.rank, last.signs)
    if session.rival_signs == seen:
        return session, False
    first = session.rival_signs is None
    if not first and _late(session, last, now):
        return session.with_(rival_signs=seen), False
    session = session.with_(rival_signs=seen, rival_since_s=now.mono_s, knocking=False, knocked_s=None)
    return session, first


def _late(session: Session, last: claim.Sighting, now: Instant) -> bool:
    """Whether a new name says nothing of the rival's life: it may have been written before the rival was asked.

    A store shows a name up to ``settle_s`` after it was written. Until then only an answer counts, because it says how
    many questions its writer had seen.
    """
    if not session.knocking or (session.rival_signs or (None,))[0] != last.rank:
        return False
    asked_s = session.rival_since_s if session.knocked_s is None else session.knocked_s
    return now.mono_s - asked_s < session.config.settle_s and last.answered < max(1, last.asked)
