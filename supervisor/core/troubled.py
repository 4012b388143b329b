"""When training itself goes wrong: a loss that is no number, or far over what it was. Told, stopped, or gone back from.

Going back ends the session: what it withdraws is on record before its successor begins, in this process or on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import commands as do
from supervisor.core import errors, rollback
from supervisor.core.ending import begin, unrecorded
from supervisor.core.rollback import ROLLED_BACK, TROUBLE
from supervisor.core.session import Ending, Phase, Session
from supervisor.core.values import replace

if TYPE_CHECKING:
    from supervisor.core import events as ev
    from supervisor.core import messages
    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome


def met(session: Session, said: messages.Trouble, now: Instant) -> Outcome:
    """Do what was chosen for such a trouble. While the session ends for another reason, only record what is withdrawn."""
    how = session.config.on_nan if said.kind == "nan" else session.config.on_spike
    ending = session.ending
    over = ending is not None and (ending.end_asked or ending.phase is Phase.FENCED)
    if how == "ignore" and said.kind == "nan" and session.rank is not None and not over:
        return session, (do.NoteNonfinite(rollback.fine_steps(said), said.step, rollback.what(said)),)
    if how == "ignore" or session.phase not in {Phase.RUNNING, Phase.DRAINING} or over:
        return session, ()
    if session.rollback is not None or session.rank is None:
        return session, ()
    chosen = rollback.decided(
        said, mine=session.rank, rolled=session.rolled, began=session.resumed_step, passed=session.passed
    )
    words = rollback.what(said)
    goes_back = how == "rollback" and chosen.tries <= rollback.TRIES_MAX
    if goes_back:
        chosen = replace(chosen, rate=session.config.nan_rate)
    else:
        chosen = rollback.stopped(chosen, said, rolled=session.rolled, began=session.resumed_step)
    session = _without(session, chosen.limit).with_(rollback=chosen, cause=words)
    commands: tuple[do.Command, ...] = (do.WriteRollback(chosen, words),)
    if session.phase is Phase.DRAINING:
        return session, (do.Say("warning", words, rollback.told(chosen)), *commands)
    if goes_back:
        told = rollback.told(chosen)
        said_so = do.Say("warning", words, told)
        new = Ending(Phase.HANDED_OVER, errors.HANDED_OVER, ROLLED_BACK, words, wait_for_uploads=False)
    else:
        if how == "rollback":
            words = f"{words}, and going back was tried {rollback.TRIES_MAX} times"
        hint = _hint(said, how)
        said_so = do.Say("error", words, hint)
        new = Ending(Phase.FAILED, errors.FAILED, TROUBLE, words, hint=hint)
    session, _ = begin(session, new)
    session = session.timed(give_up_waiting=now.mono_s + session.config.upload_wait_s)
    if session.trainer.alive:
        commands = (do.EndTrainer("kill"), *commands)
    return session, (said_so, *commands)


def recorded(session: Session, event: ev.RollbackWritten, _now: Instant) -> Outcome:
    """Every machine can know it from now on. If it could not be written, nobody may go on as if it were."""
    return unrecorded(session, event.error) if event.error else (session.with_(recorded=True), ())


def _hint(said: messages.Trouble, how: str) -> str:
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
    waiting = "" if saves.waiting == saves.newest else saves.waiting
    return session.with_(saves=saves.with_(newest="", newest_step=None, waiting=waiting))
