"""attach(): one call that makes a training script survive its machines."""

from __future__ import annotations

import atexit
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any

from supervisor.core import hardware
from supervisor.core.errors import UsageError, UserError
from supervisor.core.hardware import DEVICE, FRAMEWORK, PYTHON
from supervisor.core.messages import Hello, Note, Restored
from supervisor.trainer import alone, clock, frameworks, life, rng, signals, versions
from supervisor.trainer.folder import DamagedError, Opened, open_folder
from supervisor.trainer.own_packages import make_xxhash_importable
from supervisor.trainer.run import Run
from supervisor.trainer.saver import Saver
from supervisor.trainer.sections import Sections
from supervisor.trainer.seeding import SEED
from supervisor.trainer.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from supervisor.trainer.life import Life

__all__ = ["Run", "attach", "resume_step"]

HASH_SEED, DRAWN = "PYTHONHASHSEED", "drawn"  # keys of what a checkpoint says of its maker, beside SEED


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
    versions.check_loaded(here.warn)
    make_xxhash_importable(here.settings.packages)
    state = State(attached)
    made_by = here.made_by = {PYTHON: platform.python_version(), **frameworks.described(state.frameworks)}
    made_by |= _beginning(here, state)
    saver = Saver(
        here.settings.staging, here.settings.attempt, clock.now_s, here.say, lambda: (sections.laps, sections.lapped_s)
    )
    run = Run(here, state, saver, sections, clock.now_s)
    hello = Hello(os.getpid(), here.settings.attempt, True, made_by[FRAMEWORK], made_by[DEVICE])
    here.attach(run, hello)
    _restore(here, run, state, sections)
    if not here.settings.supervised:
        saver.after_staged = alone.keep_newest
    told = (signal.SIGTERM,) if here.settings.supervised else (signal.SIGTERM, signal.SIGINT)
    signals.listen(run.told_by_signal, told)
    atexit.register(_at_exit, here, run, os.getpid())
    return run


def resume_step() -> int:
    """Return the step that attach() will go on from, 0 for a run that begins: for a script that builds by it.

    So a layer that is unfrozen at step 1,000, or a parameter group that is added there, is built before attach().
    """
    here = life.here()
    if here.run is not None:
        return here.run.first_step
    folders = [here.settings.checkpoint] if here.settings.supervised else alone.newest_first(here.settings.staging)
    for folder in filter(None, folders):
        try:
            return open_folder(folder).step
        except DamagedError:
            if here.settings.supervised:
                raise
    return 0


def _restore(here: Life, run: Run, state: State, sections: Sections) -> None:
    began_s = clock.now_s()
    with sections.within("restore"):
        here.wake()
        opened = _restored(here, state)
        here.notice(state)
    run.slow_down(opened.manifest.made_by if opened is not None else {})
    if opened is None:
        return
    run.resume_at(opened.step)
    _compare_with_beginning(here, state, opened.manifest.made_by)
    for words in hardware.changes(opened.manifest.made_by, here.made_by):
        here.say(Note("warning", words))
    if here.settings.supervised:
        here.say(Restored(opened.step, clock.now_s() - began_s))
    else:
        here.say(Note("info", f"resumed after step {opened.step} from {opened.folder}"))


def _beginning(here: Life, state: State) -> dict[str, str]:
    """Return what checkpoints are to say of the chance that the script had before it called attach() first."""
    found = {HASH_SEED: os.environ[HASH_SEED]} if os.environ.get(HASH_SEED) else {}
    if here.seed is not None:
        found |= {SEED: str(here.seed), DRAWN: rng.as_word(rng.digests(state.frameworks))}
    return found


def _compare_with_beginning(here: Life, state: State, before: Mapping[str, str]) -> None:
    """Say what was drawn, or is ordered, otherwise than when the run began; what checkpoints say of that stays."""
    seed, now = before.get(HASH_SEED), here.made_by.get(HASH_SEED, "not set")
    if seed is not None and seed != now:
        words = f"{HASH_SEED} was {seed} and is {now}: sets of words have another order"
        here.say(Note("warning", f"{words}; start with {HASH_SEED}={seed} to have it as before"))
    if SEED not in before:
        return  # an earlier version made it, or a script on its own
    if here.seed is not None and (words := rng.drawn_otherwise(before.get(DRAWN, ""), rng.digests(state.frameworks))):
        here.say(Note("warning", words))
    here.made_by.update({name: before[name] for name in (SEED, DRAWN) if name in before})


def _restored(here: Life, state: State) -> Opened | None:
    """Put the newest checkpoint back and return it; None if there is none. What is damaged is told and passed over."""
    if here.settings.checkpoint is not None:
        return _put_back(here, state, here.settings.checkpoint)
    damaged: DamagedError | None = None
    for folder in () if here.settings.supervised else alone.newest_first(here.settings.staging):
        try:
            return _put_back(here, state, folder)
        except DamagedError as error:
            damaged = error
            here.say(Note("warning", f"{error.what}; set aside, trying the one before"))
            alone.set_aside(folder)
    if damaged is not None or (not here.settings.supervised and alone.has_only_damaged(here.settings.staging)):
        raise UserError(
            f"no checkpoint in {here.settings.staging} is whole",
            "look at the damaged- folders there; remove them to begin again at step 0",
        ) from damaged
    if here.settings.base_step:
        raise UserError(
            f"this run is at step {here.settings.base_step:,} by files that the script saved itself: attach() cannot read those",
            "start it under another --name, or without attach() as before",
        )
    state.captured()  # refuses now what could not be saved later
    return None


def _put_back(here: Life, state: State, folder: Path) -> Opened:
    opened = open_folder(folder)
    state.materialise()
    for word in state.restore(opened):
        here.say(Note("warning", word))
    return opened


def _at_exit(here: Life, run: Run, owner: int) -> None:
    """Save at the end of a script that left its loop early; not after an error, whose state nobody wants."""
    if os.getpid() == owner and not here.failed and getattr(sys, "last_value", None) is None:
        run.close()
