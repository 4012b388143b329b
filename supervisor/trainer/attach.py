"""attach(): one call that makes a training script survive its machines."""

from __future__ import annotations

import atexit
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.core.messages import Hello, Note, Restored
from supervisor.trainer import alone, clock, frameworks, life, signals
from supervisor.trainer.folder import Opened, open_folder
from supervisor.trainer.run import Run
from supervisor.trainer.saver import Saver
from supervisor.trainer.sections import Sections
from supervisor.trainer.state import State

if TYPE_CHECKING:
    from supervisor.trainer.life import Life

__all__ = ["Run", "attach"]


def attach(**attached: Any) -> Run:
    """Restore the named objects if there is a checkpoint, and return the run that keeps them.

    Anything with ``state_dict()`` and ``load_state_dict()`` may be attached; random generators are kept without asking.
    RefusedError names what cannot be kept exactly.
    """
    here = life.here()
    if here.run is not None:
        raise UsageError("supervisor.attach() was called twice", "attach everything in one call")
    sections = Sections(clock.now_s)
    here.connect()
    state = State(attached)
    state.captured()
    framework, device = frameworks.described(state.frameworks)
    here.made_by = {"python": platform.python_version(), "framework": framework}
    saver = Saver(here.settings.staging, here.settings.attempt, clock.now_s, here.say)
    run = Run(here, state, saver, sections, clock.now_s)
    here.attach(run, Hello(os.getpid(), here.settings.attempt, attached=True, framework=framework, device=device))
    _restore(here, run, state, sections)
    if not here.settings.supervised:
        saver.after_staged = alone.keep_newest
    told = (signal.SIGTERM,) if here.settings.supervised else (signal.SIGTERM, signal.SIGINT)
    signals.listen(run.told_by_signal, told)
    atexit.register(_at_exit, here, run, os.getpid())
    return run


def _restore(here: Life, run: Run, state: State, sections: Sections) -> None:
    began_s = clock.now_s()
    with sections.within("restore"):
        here.wake()
        opened = _opened(here)
        if opened is None:
            return
        for word in state.restore(opened):
            here.say(Note("warning", word))
        run.resume_at(opened.step)
    if here.settings.supervised:
        here.say(Restored(opened.step, clock.now_s() - began_s))
    else:
        here.say(Note("info", f"resumed after step {opened.step} from {opened.folder}"))


def _opened(here: Life) -> Opened | None:
    if here.settings.checkpoint is not None:
        return open_folder(here.settings.checkpoint)
    if here.settings.supervised:
        return None
    return alone.newest_whole(here.settings.staging, lambda words: here.say(Note("warning", words)))


def _at_exit(here: Life, run: Run, owner: int) -> None:
    """Save at the end of a script that left its loop early; not after an error, whose state nobody wants."""
    if os.getpid() == owner and not here.failed and getattr(sys, "last_value", None) is None:
        run.close()
