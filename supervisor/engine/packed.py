"""Checkpoints whose files early builds of version 0.1 packed: they are passed over, pinned, and exported by such a build."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.checkpoint import Verdict
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import Taken
from supervisor.engine.checkpoints import skipped as passed_over
from supervisor.engine.retaining import pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.core.checkpoint import AskUser, Found
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

BUILD = "8184219"  # the last commit that reads packed files
FOLDER = "../early-supervisor"
BEGIN_AGAIN = "to begin again at step 0: start --resume never"


def among(found: Iterable[Found]) -> Found | None:
    """Return the newest packed checkpoint, None where none is packed."""
    return max((each for each in found if each.verdict is Verdict.PACKED), key=lambda each: each.id, default=None)


def way_out(store: Store, run: RunPlace, found: Found) -> str:
    """Return the command line that exports a packed checkpoint with the last build that reads it."""
    step = str(found.id.step)
    words = ("export", step, f"../{run.name}-{step}")
    export = program.of_run("checkpoints", run.name, *words, option=program.store_option(store.traits.where))
    line = f"git worktree add {FOLDER} {BUILD} && cd {FOLDER} && {program.DEFAULT} {export}"
    return f"to export it, in a clone of training-supervisor: `{line}`"


def warnings(store: Store, run: RunPlace, skipped: Sequence[Found]) -> tuple[str, ...]:
    """Return words on each checkpoint that was passed over, and how to export the newest packed one."""
    newest = among(skipped)
    return (*map(passed_over, skipped), *(() if newest is None else (way_out(store, run, newest),)))


def refusal(store: Store, run: RunPlace, answer: AskUser, *also: str) -> UserError:
    """Return the error of a run that cannot go on by itself; ``also``: words on what of this machine was passed over."""
    newest = among(answer.skipped)
    hint = answer.hint if newest is None else f"{BEGIN_AGAIN}; {way_out(store, run, newest)}"
    return UserError("; ".join([answer.why, *also, *map(passed_over, answer.skipped)]), hint, FAILED_PRECHECKS)


def keep(store: Store, run: RunPlace, found: Iterable[Found]) -> None:
    """Pin packed checkpoints, so that retention leaves time to export them. Raises StoreError."""
    for each in found:
        if each.verdict is Verdict.PACKED:
            with suppress(Taken):
                pin(store, run, each.id)
