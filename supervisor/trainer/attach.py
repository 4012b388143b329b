"""attach(): one call that restores a training script and starts its checkpoints."""

from __future__ import annotations

import atexit
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError, UserError
from supervisor.core.wire.messages import Hello, Restored, TrainerNote
from supervisor.trainer import adapters, clock, standalone
from supervisor.trainer import context as trainer_context
from supervisor.trainer.adapters import device_changes
from supervisor.trainer.adapters.device_changes import DEVICE, FRAMEWORK, PYTHON
from supervisor.trainer.process import signals, version_check
from supervisor.trainer.process.own_packages import make_xxhash_importable
from supervisor.trainer.process.seeding import SEED
from supervisor.trainer.run import Run
from supervisor.trainer.save.checkpoint_folder import DamagedError, OpenCheckpoint, open_folder
from supervisor.trainer.save.saver import Saver
from supervisor.trainer.state import rng
from supervisor.trainer.state.capture import AttachedState
from supervisor.trainer.steps.section_timer import SectionTimer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from supervisor.trainer.context import TrainerContext

__all__ = ["Run", "attach", "resume_step"]

HASH_SEED, RNG_DIGESTS = "PYTHONHASHSEED", "drawn"  # keys in a checkpoint's made_by, beside SEED


def attach(**attached: Any) -> Run:
    """Restore the named objects if there is a checkpoint, and return the run that saves them.

    Anything with ``state_dict()`` and ``load_state_dict()`` may be attached. Random generators are saved without being named.

    Args:
        attached: the objects to save, by name: ``attach(model=model, optimizer=optimizer, data=loader)``. The names stand in
            the checkpoint, so that a resume needs the same ones.

    Returns:
        The run: iterate ``run.steps(total)``, and log with ``run.log(loss=loss)``.

    Raises:
        UnsupportedStateError: an object's state cannot be saved exactly, or does not fit the checkpoint.
        UsageError: the script called ``attach()`` before.
    """
    context = trainer_context.current()
    if context.run is not None:
        raise UsageError("supervisor.attach() was called twice", "attach everything in one call")
    sections = SectionTimer(clock.now_s)
    context.connect()
    version_check.check_loaded(context.warn)
    make_xxhash_importable(context.settings.packages)
    state = AttachedState(attached)
    made_by = context.made_by = {PYTHON: platform.python_version(), **adapters.described(state.frameworks)}
    made_by |= _initial_rng_record(context, state)
    saver = Saver(
        context.settings.staging,
        context.settings.attempt,
        clock.now_s,
        context.send,
        lambda: (sections.laps, sections.lapped_s),
    )
    run = Run(context, state, saver, sections, clock.now_s)
    hello = Hello(os.getpid(), context.settings.attempt, True, made_by[FRAMEWORK], made_by[DEVICE])
    context.attach(run, hello)
    _restore(context, run, state, sections)
    if not context.settings.supervised:
        saver.after_staged = standalone.keep_newest
    numbers = (signal.SIGTERM,) if context.settings.supervised else (signal.SIGTERM, signal.SIGINT)
    signals.listen(run.on_signal, numbers)
    atexit.register(_at_exit, context, run, os.getpid())
    return run


def resume_step() -> int:
    """Return the step that attach() will resume from, 0 for a run that begins.

    A script that builds its objects by the step calls this first. For example, it builds a layer that is unfrozen at step
    1,000, or a parameter group that is added there, before attach().
    """
    context = trainer_context.current()
    if context.run is not None:
        return context.run.first_step
    folders = (
        [context.settings.checkpoint]
        if context.settings.supervised
        else standalone.newest_first(context.settings.staging)
    )
    for folder in filter(None, folders):
        try:
            return open_folder(folder).step
        except DamagedError:
            if context.settings.supervised:
                raise
    return 0


def _restore(context: TrainerContext, run: Run, state: AttachedState, sections: SectionTimer) -> None:
    started_s = clock.now_s()
    with sections.within("restore"):
        context.wake()
        opened = _restore_newest(context, state)
        context.notice(state)
    run.scale_learning_rates(opened.manifest.made_by if opened is not None else {})
    if opened is None:
        return
    run.set_resumed(opened.step)
    _warn_if_rng_differs(context, state, opened.manifest.made_by)
    for message in device_changes.changes(opened.manifest.made_by, context.made_by):
        context.send(TrainerNote("warning", message))
    if context.settings.supervised:
        context.send(Restored(opened.step, clock.now_s() - started_s))
    else:
        context.send(TrainerNote("info", f"resumed after step {opened.step} from {opened.folder}"))


def _initial_rng_record(context: TrainerContext, state: AttachedState) -> dict[str, str]:
    """Return the random state before attach(), as checkpoints record it: seeds, and digests of the generators."""
    found = {HASH_SEED: os.environ[HASH_SEED]} if os.environ.get(HASH_SEED) else {}
    if context.seed is not None:
        found |= {SEED: str(context.seed), RNG_DIGESTS: rng.digests_text(rng.digests(state.frameworks))}
    return found


def _warn_if_rng_differs(context: TrainerContext, state: AttachedState, before: Mapping[str, str]) -> None:
    """Warn if random numbers or the order of sets differ from the run's beginning, and keep the original record."""
    seed, now = before.get(HASH_SEED), context.made_by.get(HASH_SEED, "not set")
    if seed is not None and seed != now:
        message = f"{HASH_SEED} was {seed} and is {now}: sets of words have another order"
        context.send(TrainerNote("warning", f"{message}; start with {HASH_SEED}={seed} to have it as before"))
    if SEED not in before:
        return  # an earlier version made it, or a script on its own
    if context.seed is not None and (
        message := rng.draw_difference(before.get(RNG_DIGESTS, ""), rng.digests(state.frameworks))
    ):
        context.send(TrainerNote("warning", message))
    context.made_by.update({name: before[name] for name in (SEED, RNG_DIGESTS) if name in before})


def _restore_newest(context: TrainerContext, state: AttachedState) -> OpenCheckpoint | None:
    """Restore the newest valid checkpoint and return it; None if there is none.

    A damaged one is reported and set aside.
    """
    if context.settings.checkpoint is not None:
        return _restore_from(context, state, context.settings.checkpoint)
    damaged: DamagedError | None = None
    for folder in () if context.settings.supervised else standalone.newest_first(context.settings.staging):
        try:
            return _restore_from(context, state, folder)
        except DamagedError as error:
            damaged = error
            context.send(TrainerNote("warning", f"{error.what}; set aside, trying the one before"))
            standalone.set_aside(folder)
    if damaged is not None or (
        not context.settings.supervised and standalone.has_only_damaged(context.settings.staging)
    ):
        raise UserError(
            f"no checkpoint in {context.settings.staging} is whole",
            "look at the damaged- folders there; remove them to begin again at step 0",
        ) from damaged
    if context.settings.base_step:
        raise UserError(
            f"this run is at step {context.settings.base_step:,} by files that the script saved itself: attach() cannot read those",
            "start it under another --name, or without attach() as before",
        )
    state.capture()  # rejects now what could not be saved later
    return None


def _restore_from(context: TrainerContext, state: AttachedState, folder: Path) -> OpenCheckpoint:
    opened = open_folder(folder)
    state.materialise()
    for message in state.restore(opened):
        context.send(TrainerNote("warning", message))
    return opened


def _at_exit(context: TrainerContext, run: Run, owner_pid: int) -> None:
    """Save at the end of a script that left its loop early.

    After an error nothing is saved, because the state may be wrong.
    """
    if os.getpid() == owner_pid and not context.failed and getattr(sys, "last_value", None) is None:
        run.close()
