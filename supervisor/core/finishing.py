"""The script's own end: it said that it is done, or its process ended without that; what is then left of its process.

Exit code 0 alone is no success: a process that ends inside the script's loop has not come to its end. And a process
that goes on after the script's end (threads that never return, an atexit handler that hangs) holds nothing up for long:
an attached script has saved all by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import commands as do
from supervisor.core.liveness import AFTER
from supervisor.core.recovery import signal_name
from supervisor.core.session import Phase, Session, Trainer
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from supervisor.core import events as ev
    from supervisor.core import messages
    from supervisor.core.instant import Instant
    from supervisor.core.outcome import Outcome

GRACE_S = 60.0  # for a process whose script is done; again as long while it computes, because it may be sending results
GRACE_S_MAX = 600.0
SAID_AFTER_S = 5.0
WORKING_CPU_S = 1.0  # in one grace
_OUTSIDE_LOOP = frozenset({"start", "restore", AFTER})


def finished(session: Session, said: messages.Finished, now: Instant) -> Outcome:
    """The script came to its normal end: from now on its process has its grace."""
    trainer = session.trainer.with_(finished=said, ended_at_s=now.mono_s)
    session = session.with_(trainer=trainer)
    if session.phase is not Phase.RUNNING or not trainer.alive:
        return session, ()
    grace_s = _grace_s(session)
    first_s = SAID_AFTER_S if grace_s is None else min(SAID_AFTER_S, grace_s / 2)
    return session.timed(leave=now.mono_s + first_s), ()


def leave(session: Session, now: Instant) -> Outcome:
    """The process of a script that is done still lives: say so, later end it, unless it computes."""
    trainer, grace_s = session.trainer, _grace_s(session)
    if trainer.finished is None or not trainer.alive or session.phase is not Phase.RUNNING:
        return session.timed(leave=None), ()
    waited_s = now.mono_s - trainer.ended_at_s
    if grace_s is not None and waited_s >= grace_s:
        return session.timed(leave=None), (do.LookAtTrainer(),)
    words = f"the script is done, and its process has not ended{_of_threads(trainer)}"
    if grace_s is None:
        said = do.Say("warning", words, "waiting for it as long as it takes (--hang-after none); `stop --now` ends it")
        return session.timed(leave=None), (said,)
    kept = "all that it trained is kept" if trainer.attached else "what it has saved by then is kept"
    hint = f"it is ended in {duration(grace_s - waited_s)}, unless it computes; {kept}"
    session = session.timed(leave=trainer.ended_at_s + grace_s)
    return session, (do.Say("info", words, hint), do.LookAtTrainer())


def looked_at(session: Session, event: ev.TrainerSeen, now: Instant) -> Outcome:
    """How much the process of a script that is done has computed since it was looked at last."""
    trainer, grace_s = session.trainer, _grace_s(session)
    computed_s = None if event.cpu_s is None else event.cpu_s - trainer.cpu_s
    session = session.with_(trainer=trainer.with_(cpu_s=event.cpu_s or 0.0))
    waited_s = now.mono_s - trainer.ended_at_s
    if session.timers.leave is not None or grace_s is None or not trainer.alive:
        return session, ()
    if computed_s is not None and computed_s >= WORKING_CPU_S and waited_s < max(GRACE_S_MAX, grace_s):
        return session.timed(leave=now.mono_s + grace_s), ()
    words = (
        f"the script is done, and its process has not ended{_of_threads(trainer)} in {duration(waited_s)}: ending it"
    )
    session = session.with_(trainer=session.trainer.with_(hung=True))
    return session, (do.Say("warning", words), do.EndTrainer("kill"))


def came_to_its_end(trainer: Trainer, code: int) -> bool:
    """Say whether the script came to its end. What its process does after that is no failure, unless it chose a code."""
    if trainer.finished is not None:
        return code <= 0
    return code == 0 and trainer.said is None and not _inside_loop(trainer)


def unfinished_words(session: Session) -> str:
    """Say where a process with exit code 0 ended inside its script's loop."""
    return f"the process ended with exit code 0 {_at(session)}, before the script came to its end"


def finished_words(session: Session, code: int) -> tuple[str, str]:
    """Return how the script finished, and what is to be said of its process besides, or ""."""
    trainer, step = session.trainer, reached(session)
    done = trainer.finished
    words = "the script finished" + (f" at step {step:,}" if step else "")
    if done is not None and done.short_of is not None and done.short_of > step:
        words += f" of {done.short_of:,}, because it left its loop"
    if code == 0:
        return words, ""
    if trainer.hung:
        return f"{words}; its process did not end by itself and was ended", ""
    return words, f"the script was done when its process was killed by {signal_name(code)}: nothing is lost by that"


def reached(session: Session) -> int:
    """Return the step it came to: as it counts, or as the newest snapshot of its files says; 0 where nobody counts."""
    told = session.trainer.step or 0
    if not session.saves.counted:
        return told if session.trainer.step_s else 0
    return told if session.trainer.step_s else max(told, session.saves.newest_step or 0)


def _inside_loop(trainer: Trainer) -> bool:
    """Say whether the process ended in a loop that it had not come through, as far as it told."""
    if trainer.vitals.section in _OUTSIDE_LOOP or not (trainer.attached or trainer.total_steps):
        return False
    return trainer.total_steps is None or (trainer.step or 0) < trainer.total_steps


def _at(session: Session) -> str:
    total = session.trainer.total_steps
    return f"at step {reached(session):,}" + (f" of {total:,}" if total else "")


def _grace_s(session: Session) -> float | None:
    policy = session.config.liveness
    if not policy.enabled:
        return None
    return GRACE_S if policy.fixed_s is None else policy.fixed_s


def _of_threads(trainer: Trainer) -> str:
    left = trainer.finished.left if trainer.finished else ""
    return f" (it waits for {left})" if left else ""
