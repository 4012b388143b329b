"""rm RUN: remove a run from its store and from this machine, after asking; never one with a live session."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli import confirm
from supervisor.cli.options import Parser, parser
from supervisor.cli.run_lookup import opened, option, select_run
from supervisor.core import shell_commands
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.humanize import duration
from supervisor.views.formatting import size, state
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.host.cleaning import Item
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog.claims import RunView
    from supervisor.engine.run_catalog.run_status import RunOverview

POLL_EVERY_S, REPORT_EVERY_S = 0.5, 4.0


def run(arguments: Sequence[str]) -> int:
    """List the files to remove, ask, and remove them."""
    options = _parser().parse_args(arguments)
    if options.run is None:
        raise UsageError(
            "RUN is missing: rm removes the run that is named", f"{shell_commands.command('list')} shows the names"
        )
    with opened(options) as store:
        from supervisor.engine.clock import BootClock
        from supervisor.engine.run_catalog import remove_run

        clock = BootClock()
        place, overview = _found(store, options, clock.now())
        if overview is not None and overview.is_active:
            _require_no_session(store, place, overview, options)
        local = _local(overview)
        if local is not None and local.keeps and "holds step" not in local.keeps:
            raise UserError(
                f"{place.name}: {local.keeps} on this machine",
                f"wait for its end, or `{_stop(options)}`",
                FAILED_PRECHECKS,
            )
        show("\n".join(_lines(store, place, overview, local)))
        if options.dry_run:
            return 0
        if not confirm.confirmed(
            f"Remove the run {place.name} for good?", yes=options.yes, what=f"the run {place.name}"
        ):
            show("nothing was removed")
            return FAILED
        remove_run.remove(store, place, _Progress(clock.now().mono_s))
        if local is not None:
            shutil.rmtree(local.path, ignore_errors=True)
    show(f"{place.name}: removed")
    show(f"  next: {shell_commands.command('list', option=option(options))}")
    return 0


def _found(store: Store, options: Namespace, now: Instant) -> tuple[RunPaths, RunOverview | None]:
    """Return the run and its overview; None if its record is damaged."""
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog import run_status
    from supervisor.engine.run_catalog.runs import DamagedRecord

    try:
        place, record = select_run(store, options, options.run, "rm")
    except DamagedRecord as damaged:
        show(f"{damaged.what}; its files can still be removed", sys.stderr)
        return RunPaths(options.run), None
    return place, run_status.look(store, place, record, now)


def _require_no_session(store: Store, place: RunPaths, overview: RunOverview, options: Namespace) -> None:
    """Raise UserError if a session is live or may be. With ``--takeover`` ask it to end at once."""
    from supervisor import composition
    from supervisor.engine.run_catalog import claims

    if overview.rank is None:
        return
    number, within_s = overview.rank.generation, composition.answer_within_s(store.traits)
    if options.takeover:
        claims.request_stop(store, place, overview.rank, "now")
        show(f"{place.name}: asked session {number} to end at once; waiting at most {duration(within_s)}")
        _wait_for_end(store, place, within_s)
        return
    where = "on this machine" if overview.alive else "on another machine"
    refused = UserError(
        f"session {number} is at {place.name} {where}, and a run that a machine is at is not removed",
        f"`{_stop(options)}` first; rm --takeover asks it to end and removes the run all the same",
        FAILED_PRECHECKS,
    )
    if overview.alive or (overview.silent_s is not None and overview.silent_s <= overview.quiet_s):
        raise refused
    claims.probe(store, place, overview.rank)
    show(f"{place.name}: session {number} left no end: asking it for a sign, at most {duration(within_s)}")
    if _wait_for_answer(store, place, within_s):
        raise refused


def _wait_for_end(store: Store, place: RunPaths, within_s: float) -> None:
    _wait_until(
        store, place, within_s, lambda view: bool(view.last is None or view.last.end or view.last.alive is False)
    )


def _wait_for_answer(store: Store, place: RunPaths, within_s: float) -> bool:
    from supervisor.engine.run_catalog import claims
    from supervisor.engine.trainer_process import process_identity

    first = claims.inspect(store, place, process_identity.alive).last
    return _wait_until(store, place, within_s, lambda view: view.last != first)


def _wait_until(store: Store, place: RunPaths, within_s: float, done: Callable[[RunView], bool]) -> bool:
    """Inspect the run until ``done`` returns True; print a line every few seconds."""
    from supervisor.engine.clock import BootClock
    from supervisor.engine.run_catalog import claims
    from supervisor.engine.trainer_process import process_identity

    clock, pause = BootClock(), Event()
    began_s = reported_s = clock.now().mono_s
    while (now_s := clock.now().mono_s) - began_s < within_s:
        if done(claims.inspect(store, place, process_identity.alive)):
            return True
        if now_s - reported_s >= REPORT_EVERY_S:
            reported_s = now_s
            show(f"  waiting: {duration(within_s - (now_s - began_s))} left")
        pause.wait(POLL_EVERY_S)
    return False


def _local(overview: RunOverview | None) -> Item | None:
    from supervisor import composition
    from supervisor.engine.host import cleaning

    if overview is None or not overview.record.id:
        return None
    folder = composition.local_root(os.environ) / overview.record.id
    return cleaning.local_run(folder) if folder.is_dir() else None


def _lines(store: Store, place: RunPaths, overview: RunOverview | None, local: Item | None) -> list[str]:
    from supervisor.engine.run_catalog import remove_run

    shown = [f"{place.name} in {store.traits.where}: {size(remove_run.size(store, place))}"]
    if overview is not None:
        durable = overview.plain["checkpoints"]["durable"]
        safe = "no safe step" if durable is None else f"newest safe step {durable:,}"
        shown[0] += (
            f" · {state(overview.plain)} · {safe} · {overview.sessions} session{'' if overview.sessions == 1 else 's'}"
        )
    if local is not None:
        shown.append(f"on this machine: {size(local.bytes)} in {local.path}")
        if local.keeps:
            shown.append(f"  it {local.keeps}")
    return shown


def _stop(options: Namespace) -> str:
    return shell_commands.command_of_run("stop", options.run, option=option(options))


class _Progress:
    """Prints the progress every few seconds: on a drive the removal of many files takes minutes."""

    def __init__(self, began_s: float) -> None:
        self._reported_s, self._count = began_s, 0

    def __call__(self, path: str) -> None:
        from supervisor.engine.clock import BootClock

        self._count += 1
        now_s = BootClock().now().mono_s
        if now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            show(f"  removed {self._count:,} so far; now {path}")


def _parser() -> Parser:
    made = parser(
        "rm", "Remove a run: its checkpoints, logs and records in the store, and its folders on this machine."
    )
    made.of_run = True
    made.add_argument("run", metavar="RUN", nargs="?")
    made.add_argument("--name", dest="named", help=argparse.SUPPRESS)
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    made.add_argument(
        "--takeover",
        action="store_true",
        help="ask a machine that is at the run to end, and remove the run all the same",
    )
    return made
