"""rm RUN: remove a run from its store and from this machine, after asking; never one that a machine is at."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli import asking
from supervisor.cli.finding import one_run, opened, option
from supervisor.cli.options import Parser, parser
from supervisor.core import program
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.spoken import duration
from supervisor.views.words import size, state
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.claims import View
    from supervisor.engine.cleaning import Item
    from supervisor.engine.overview import Overview
    from supervisor.engine.place import RunPlace

LOOK_EVERY_S, SAY_EVERY_S = 0.5, 4.0


def run(arguments: Sequence[str]) -> int:
    """Say what would go, ask, and remove it."""
    options = _parser().parse_args(arguments)
    if options.run is None:
        raise UsageError(
            "RUN is missing: rm removes the run that is named", f"{program.command('list')} shows the names"
        )
    with opened(options) as store:
        from supervisor.engine import removal
        from supervisor.engine.clock import BootClock

        clock = BootClock()
        place, seen = _found(store, options, clock.now())
        if seen is not None and seen.served:
            _require_nobody(store, place, seen, options)
        local = _local(seen)
        if local is not None and local.keeps and "holds step" not in local.keeps:
            raise UserError(
                f"{place.name}: {local.keeps} on this machine",
                f"wait for its end, or `{_stop(options)}`",
                FAILED_PRECHECKS,
            )
        show("\n".join(_lines(store, place, seen, local)))
        if options.dry_run:
            return 0
        if not asking.agreed(f"Remove the run {place.name} for good?", yes=options.yes, what=f"the run {place.name}"):
            show("nothing was removed")
            return FAILED
        removal.remove(store, place, _Progress(clock.now().mono_s))
        if local is not None:
            shutil.rmtree(local.path, ignore_errors=True)
    show(f"{place.name}: removed")
    show(f"  next: {program.command('list', option=option(options))}")
    return 0


def _found(store: Store, options: Namespace, now: Instant) -> tuple[RunPlace, Overview | None]:
    """Return the run, and what is seen of it; None where its record is damaged and no session tells what it said."""
    from supervisor.engine import overview
    from supervisor.engine.place import RunPlace
    from supervisor.engine.runs import DamagedRecord

    try:
        place, record = one_run(store, options, options.run, "rm")
    except DamagedRecord as damaged:
        show(f"{damaged.what}; its files can still be removed", sys.stderr)
        return RunPlace(options.run), None
    return place, overview.look(store, place, record, now)


def _require_nobody(store: Store, place: RunPlace, seen: Overview, options: Namespace) -> None:
    """Raise UserError where a session is at the run, or may be; with ``--takeover`` it is asked to end at once."""
    from supervisor import wiring
    from supervisor.engine import claims

    if seen.rank is None:
        return
    number, within_s = seen.rank.epoch, wiring.answer_within_s(store.traits)
    if options.takeover:
        claims.request_stop(store, place, seen.rank, "now")
        show(f"{place.name}: asked session {number} to end at once; waiting at most {duration(within_s)}")
        _ended_within(store, place, within_s)
        return
    where = "on this machine" if seen.alive else "on another machine"
    refused = UserError(
        f"session {number} is at {place.name} {where}, and a run that a machine is at is not removed",
        f"`{_stop(options)}` first; rm --takeover asks it to end and removes the run all the same",
        FAILED_PRECHECKS,
    )
    if seen.alive or (seen.silent_s is not None and seen.silent_s <= seen.quiet_s):
        raise refused
    claims.knock(store, place, seen.rank)
    show(f"{place.name}: session {number} left no end: asking it for a sign, at most {duration(within_s)}")
    if _sign_within(store, place, within_s):
        raise refused


def _ended_within(store: Store, place: RunPlace, within_s: float) -> None:
    _waited(store, place, within_s, lambda view: bool(view.last is None or view.last.end or view.last.alive is False))


def _sign_within(store: Store, place: RunPlace, within_s: float) -> bool:
    from supervisor.engine import claims, identity

    first = claims.look(store, place, identity.alive).last
    return _waited(store, place, within_s, lambda view: view.last != first)


def _waited(store: Store, place: RunPlace, within_s: float, done: Callable[[View], bool]) -> bool:
    """Look at the run until ``done`` says so; a line each few seconds says what is waited for."""
    from supervisor.engine import claims, identity
    from supervisor.engine.clock import BootClock

    clock, pause = BootClock(), Event()
    began_s = said_s = clock.now().mono_s
    while (now_s := clock.now().mono_s) - began_s < within_s:
        if done(claims.look(store, place, identity.alive)):
            return True
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            show(f"  waiting: {duration(within_s - (now_s - began_s))} left")
        pause.wait(LOOK_EVERY_S)
    return False


def _local(seen: Overview | None) -> Item | None:
    from supervisor import wiring
    from supervisor.engine import cleaning

    if seen is None or not seen.record.id:
        return None
    folder = wiring.local_root(os.environ) / seen.record.id
    return cleaning.local_run(folder) if folder.is_dir() else None


def _lines(store: Store, place: RunPlace, seen: Overview | None, local: Item | None) -> list[str]:
    from supervisor.engine import removal

    shown = [f"{place.name} in {store.traits.where}: {size(removal.size(store, place))}"]
    if seen is not None:
        kept = seen.plain["checkpoints"]["durable"]
        safe = "no safe step" if kept is None else f"newest safe step {kept:,}"
        shown[0] += f" · {state(seen.plain)} · {safe} · {seen.sessions} session{'' if seen.sessions == 1 else 's'}"
    if local is not None:
        shown.append(f"on this machine: {size(local.bytes)} in {local.path}")
        if local.keeps:
            shown.append(f"  it {local.keeps}")
    return shown


def _stop(options: Namespace) -> str:
    return program.command_of_run("stop", options.run, option=option(options))


class _Progress:
    """Says every few seconds what is being removed, because on a drive a run of many files takes minutes."""

    def __init__(self, began_s: float) -> None:
        self._said_s, self._count = began_s, 0

    def __call__(self, path: str) -> None:
        from supervisor.engine.clock import BootClock

        self._count += 1
        now_s = BootClock().now().mono_s
        if now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
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
