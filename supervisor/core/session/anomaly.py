"""When training itself goes wrong: a loss that is no number, or far over what it was. Told, stopped, or gone back from.

Going back ends the session: what it withdraws is on record before its successor begins, in this process or on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import errors
from supervisor.core.frozen import replace
from supervisor.core.policy import rollback
from supervisor.core.policy.rollback import ROLLED_BACK, STOPPED_BY_ANOMALY
from supervisor.core.session import commands as do
from supervisor.core.session.shutdown import begin, unrecorded
from supervisor.core.session.state import Ending, Phase, Session

if TYPE_CHECKING:
    from supervisor.core.clock import Instant
    from supervisor.core.session import events as ev
    from supervisor.core.session.decision import Outcome
    from supervisor.core.wire import messages


def on_anomaly(session: Session, said: messages.Anomaly, now: Instant) -> Outcome:
    """Do what was chosen for such a trouble. While the session ends for another reason, only record what is withdrawn."""
    how = session.config.on_nan if said.kind == "nan" else session.config.on_spike
    ending = session.ending
    over = ending is not None and (ending.end_record_requested or ending.phase is Phase.FENCED)
    if how == "ignore" and said.kind == "nan" and session.session_id is not None and not over:
        return session, (do.RecordNonfinite(rollback.last_good_step(said), said.step, rollback.describe_anomaly(said)),)
    if how == "ignore" or session.phase not in {Phase.RUNNING, Phase.DRAINING} or over:
        return session, ()
    if session.rollback is not None or session.session_id is None:
        return session, ()
    chosen = rollback.next_rollback(
        said,
        mine=session.session_id,
        rolled=session.active_rollbacks,
        began=session.resumed_step,
        passed=session.first_durable_past_anomaly,
    )
    words = rollback.describe_anomaly(said)
    goes_back = how == "rollback" and chosen.attempt <= rollback.ATTEMPTS_MAX
    if goes_back:
        chosen = replace(chosen, rate=session.config.rollback_lr_factor)
    else:
        chosen = rollback.stop_record(chosen, said, rolled=session.active_rollbacks, began=session.resumed_step)
    session = _without(session, chosen.last_good_step).with_(rollback=chosen, cause=words)
    commands: tuple[do.Command, ...] = (do.WriteRollback(chosen, words),)
    if session.phase is Phase.DRAINING:
        return session, (do.Notify("warning", words, rollback.describe(chosen)), *commands)
    if goes_back:
        told = rollback.describe(chosen)
        said_so = do.Notify("warning", words, told)
        new = Ending(Phase.HANDED_OVER, errors.HANDED_OVER, ROLLED_BACK, words, wait_for_uploads=False)
    else:
        if how == "rollback":
            words = f"{words}, and going back was tried {rollback.ATTEMPTS_MAX} times"
        hint = _hint(said, how)
        said_so = do.Notify("error", words, hint)
        new = Ending(Phase.FAILED, errors.FAILED, STOPPED_BY_ANOMALY, words, hint=hint)
    session, _ = begin(session, new)
    session = session.timed(give_up_waiting=now.mono_s + session.config.upload_wait_s)
    if session.trainer.alive:
        commands = (do.SignalTrainer("kill"), *commands)
    return session, (said_so, *commands)


def on_rollback_recorded(session: Session, event: ev.RollbackWritten, _now: Instant) -> Outcome:
    """Every machine can know it from now on. If it could not be written, nobody may go on as if it were."""
    return unrecorded(session, event.error) if event.error else (session.with_(rollback_recorded=True), ())


def _hint(said: messages.Anomaly, how: str) -> str:
    before = f"`resume` goes on before step {said.step:,}"
    if how == "stop":
        other = "--on-nan rollback" if said.kind == "nan" else "--on-spike rollback"
        return f"mend the data or the learning rate and start again; {before}, with {other} it leaves out these batches"
    return f"see the steps before it (`logs`) and mend the data or the learning rate; {before}"


def _without(session: Session, limit: int) -> Session:
    """Let go of a staged checkpoint that is withdrawn; one that is on its way may arrive, nobody goes on from it."""
    saves = session.saves
    if saves.newest_step is None or saves.newest_step <= limit:
        return session
    waiting = "" if saves.next_upload == saves.newest else saves.next_upload
    return session.with_(saves=saves.with_(newest="", newest_step=None, next_upload=waiting))
