"""Checkpoints that early builds of version 0.1 compressed. They are skipped and pinned; such a build can export them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.checkpoint.manifest import Validity
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import AlreadyExists
from supervisor.engine.resume.fetch import describe_skipped
from supervisor.engine.upload.prune import pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.core.checkpoint.manifest import Candidate, NeedsUser
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

BUILD = "8184219"  # the last commit that reads packed files
FOLDER = "../early-supervisor"
BEGIN_AGAIN = "to begin again at step 0: start --resume never"


def newest_packed(found: Iterable[Candidate]) -> Candidate | None:
    """Return the newest packed checkpoint, or None."""
    return max((each for each in found if each.verdict is Validity.PACKED), key=lambda each: each.id, default=None)


def export_command(store: Store, run: RunPaths, found: Candidate) -> str:
    """Return the command line that exports a packed checkpoint with the last build that reads it."""
    step = str(found.id.step)
    words = ("export", step, f"../{run.name}-{step}")
    export = shell_commands.of_run(
        "checkpoints", run.name, *words, option=shell_commands.store_option(store.traits.where)
    )
    line = f"git worktree add {FOLDER} {BUILD} && cd {FOLDER} && {shell_commands.DEFAULT} {export}"
    return f"to export it, in a clone of training-supervisor: `{line}`"


def warnings(store: Store, run: RunPaths, skipped: Sequence[Candidate]) -> tuple[str, ...]:
    """Describe each skipped checkpoint, and the command that exports the newest packed one."""
    newest = newest_packed(skipped)
    return (*map(describe_skipped, skipped), *(() if newest is None else (export_command(store, run, newest),)))


def refusal(store: Store, run: RunPaths, answer: NeedsUser, *also: str) -> UserError:
    """Return the error for a run that cannot resume. ``also`` describes the skipped candidates of this machine."""
    newest = newest_packed(answer.skipped)
    hint = answer.hint if newest is None else f"{BEGIN_AGAIN}; {export_command(store, run, newest)}"
    return UserError("; ".join([answer.why, *also, *map(describe_skipped, answer.skipped)]), hint, FAILED_PRECHECKS)


def pin_packed(store: Store, run: RunPaths, found: Iterable[Candidate]) -> None:
    """Pin packed checkpoints, so that there is time to export them. Raises StoreError."""
    for each in found:
        if each.verdict is Validity.PACKED:
            with suppress(AlreadyExists):
                pin(store, run, each.id)
