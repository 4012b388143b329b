"""After the end of a session: a machine that is not needed any more is given back, or one is asked for that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.errors import UserError
from supervisor.core.session import Phase, Session
from supervisor.core.spoken import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Clock, Platform, Traits
    from supervisor.engine.loop import Inbox

    Say = Callable[[str, str], None]

KEEP = "SUPERVISOR_RUN_KEEP_MACHINE"
PAUSE_S = 10.0  # for the last lines to reach who looks at them, and for a person to object
FLUSH_S = 900.0
FUTILE_S = 1800.0  # a job that saved nothing new in so long would do the same again, for ever
_OF_THIS_DISK = frozenset({"", "fsync"})
_OBJECTS = frozenset({"SIGINT", "SIGTERM"})


class Leaving:
    """What there is to do with the machine. ``traits`` are those of the store, in which the run must outlive it."""

    def __init__(self, platform: Platform, traits: Traits, *, inbox: Inbox, clock: Clock, say: Say) -> None:
        self._platform, self._traits, self._say = platform, traits, say
        self._inbox, self._clock = inbox, clock

    def leave(self, session: Session, *, safe: bool, keep: bool) -> None:
        """Give the machine back after a finished run, or have it started again after a hand-over; never raises.

        Not after a failure, because a person will want to look; not where nothing was done, because then somebody came
        to look at a run that was finished long ago.
        """
        try:
            if session.phase is Phase.HANDED_OVER and self._platform.again is not None:
                self._start_again(session, self._platform.again)
            elif session.phase is Phase.SUCCEEDED and safe and session.trainer.attempt:
                self._release(keep=keep)
        except UserError as error:
            self._say(error.what, error.hint)

    def _start_again(self, session: Session, again: Callable[[], str]) -> None:
        durable, lived_s = session.saves.durable, self._clock.now().mono_s - session.started_s
        if lived_s > FUTILE_S and (durable is None or durable.step <= session.resumed_step):
            words = f"nothing new became safe in {duration(lived_s)}, so {self._platform.title} is not started again"
            self._say(words, "find out why (`logs`), or give it more time; then start it by hand")
            return
        self._say(f"having {self._platform.title} started again, so that the run goes on", "")
        self._say(again(), "")

    def _release(self, *, keep: bool) -> None:
        platform = self._platform
        if platform.release is None:
            return
        if self._traits.evidence in _OF_THIS_DISK:
            words = f"the run is finished, and all of it lies on this machine's own disk, in {self._traits.where}"
            self._say(words, "copy it away before the machine ends; with a store on Drive it would be given back now")
            return
        if keep:
            self._say("the run is finished and safe; this machine is kept, and goes on using up compute units", "")
            return
        words = "the run is finished and safe: giving this machine back, so that no more compute units are used"
        self._say(words, f"in {duration(PAUSE_S)}, and all on it goes; Ctrl-C now or --keep-machine keeps it")
        if self._objected():
            self._say("this machine is kept, and goes on using up compute units", "")
            return
        if self._traits.mounted and platform.flush is not None:
            platform.flush(FLUSH_S)  # small files of the end may still be on their way
        platform.release()

    def _objected(self) -> bool:
        until_s = self._clock.now().mono_s + PAUSE_S
        while (left_s := until_s - self._clock.now().mono_s) > 0:
            heard = self._inbox.wait(left_s)
            if isinstance(heard, ev.Signalled) and heard.name in _OBJECTS:
                return True
        return False


def kept(environ: Mapping[str, str]) -> bool:
    """Say whether whoever started us gives the machine back, as a fleet does."""
    return environ.get(KEEP, "") not in {"", "0"}
