"""Release of the machine after the end of a session, or a request for its restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.errors import UserError
from supervisor.core.humanize import duration
from supervisor.core.session import events as ev
from supervisor.core.session.state import Phase, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Clock, Platform, StoreTraits
    from supervisor.engine.loop import EventQueue

    Say = Callable[[str, str], None]

KEEP = "SUPERVISOR_RUN_KEEP_MACHINE"
PAUSE_S = 10.0  # time for the last lines to be shown, and for the user to object
FLUSH_S = 900.0
FUTILE_S = 1800.0  # a job that saved nothing new in this time would do the same again, for ever
_OF_THIS_DISK = frozenset({"", "fsync"})
_OBJECTS = frozenset({"SIGINT", "SIGTERM"})


class MachineRelease:
    """Handles the machine. ``traits`` belong to the store, in which the run must outlive the machine."""

    def __init__(self, platform: Platform, traits: StoreTraits, *, inbox: EventQueue, clock: Clock, say: Say) -> None:
        self._platform, self._traits, self._say = platform, traits, say
        self._inbox, self._clock = inbox, clock

    def release_or_requeue(self, session: Session, *, safe: bool, keep: bool) -> None:
        """Release the machine after a finished run, or have it restarted after a hand-over; never raise.

        After a failure it is kept, because the user will want to look. It is also kept if no work was done: then the
        user is looking at a run that finished long ago.
        """
        try:
            if session.phase is Phase.HANDED_OVER and self._platform.again is not None:
                self._requeue(session, self._platform.again)
            elif session.phase is Phase.SUCCEEDED and safe and session.trainer.attempt:
                self._release(keep=keep)
        except UserError as error:
            self._say(error.what, error.hint)

    def _requeue(self, session: Session, again: Callable[[], str]) -> None:
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
            self._say(words, "copy it away before the machine ends; with a store on Drive it would be released now")
            return
        if keep:
            self._say("the run is finished and safe; this machine is kept and uses more compute units", "")
            return
        words = "the run is finished and safe: releasing this machine, so that no more compute units are used"
        self._say(words, f"in {duration(PAUSE_S)}, and all on it goes; Ctrl-C now or --keep-machine keeps it")
        if self._user_objected():
            self._say("this machine is kept and uses more compute units", "")
            return
        if self._traits.mounted and platform.flush is not None:
            platform.flush(FLUSH_S)  # small files of the end may still be in upload
        platform.release()

    def _user_objected(self) -> bool:
        until_s = self._clock.now().mono_s + PAUSE_S
        while (left_s := until_s - self._clock.now().mono_s) > 0:
            event = self._inbox.wait(left_s)
            if isinstance(event, ev.SignalReceived) and event.name in _OBJECTS:
                return True
        return False


def is_kept(environ: Mapping[str, str]) -> bool:
    """Return True if the parent releases the machine, as a fleet does."""
    return environ.get(KEEP, "") not in {"", "0"}
