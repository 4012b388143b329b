"""stop [RUN]: save, wait until it is safe, end; asked through the store, so from any machine that sees it."""

from __future__ import annotations

import signal
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli.finding import NoSuchRunError, StoreAwayError, living_here, one_run, opened, option, told
from supervisor.cli.options import Parser, add_run, parser
from supervisor.core import program
from supervisor.core.errors import FAILED
from supervisor.core.shown import shown
from supervisor.core.spoken import duration
from supervisor.views import status as view
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.ports import Clock
    from supervisor.engine.overview import Overview

LOOK_EVERY_S = 0.5
SAY_EVERY_S = 10.0
PATIENCE_S = 150.0
TWICE_AFTER_S = 1.0
CANCELLING = "CANCELLING"


def run(arguments: Sequence[str]) -> int:
    """Ask the session that is at it to end, and wait for its word."""
    return told(_parser().parse_args(arguments), _through_store, _directly)


def _through_store(options: Namespace) -> int:
    with opened(options) as store:
        from supervisor.engine import claims, overview
        from supervisor.engine.clock import BootClock

        clock = BootClock()
        place, record = one_run(store, options, options.run, "stop")

        def seen() -> Overview:
            return overview.look(store, place, record, clock.now())

        found = seen()
        if found.rank is None or not found.served:
            show(f"{place.name}: nothing to stop: {shown(_why_not(found))}")
        else:
            claims.request_stop(store, place, found.rank, "now" if options.now else "save")
            show(f"{place.name}: asked session {found.rank.epoch} to {_how(options)}")
            found = _waited(seen, found, clock, patience_s=store.traits.silence_s)
    return _told(found, options)


def _directly(options: Namespace, error: StoreAwayError | NoSuchRunError) -> int:
    """Signal the session on this machine, because its store cannot pass the request on. None here: raise the error."""
    from supervisor.engine import overview
    from supervisor.engine.clock import BootClock

    here = living_here(options, options.run, error)
    show(f"{error.what}; telling its session on this machine directly", sys.stderr)
    stopping = here.plain.get("state") == CANCELLING
    if not stopping or options.now:
        here.signal(signal.SIGTERM)
        show(f"{here.run}: told session {here.rank.epoch} to {_how(options)}")
    if options.now and not stopping:
        Event().wait(TWICE_AFTER_S)  # because two signals at once arrive as one
        here.signal(signal.SIGTERM)

    def seen() -> Overview:
        nonlocal here
        here = here.again()
        return overview.of_here(here, error.what)

    return _told(_waited(seen, seen(), BootClock(), patience_s=PATIENCE_S), options)


def _told(found: Overview, options: Namespace) -> int:
    """Say what is safe now and what comes next; the exit code says whether it ended."""
    store = option(options)
    live_at = view.Live(found.served, _next(found, store), store)
    show("\n".join([*view.safe_lines(found.plain, live_at), *view.next_commands(live_at.commands)]))
    return 0 if not found.served else FAILED


def _how(options: Namespace) -> str:
    return "end at once" if options.now else "save and end"


def _waited(seen: Callable[[], Overview], first: Overview, clock: Clock, *, patience_s: float) -> Overview:
    """Return what is seen when the session has ended, or shows no sign of life for so long."""
    pause, found = Event(), first
    said_s = sign_s = clock.now().mono_s
    sign = first.plain["updated"]
    while True:
        pause.wait(LOOK_EVERY_S)
        found, now_s = seen(), clock.now().mono_s
        if found.rank != first.rank or not found.served:
            show(f"{found.run.name}: {shown(_end_of(found))}")
            return found
        if found.plain["updated"] != sign:
            sign, sign_s = found.plain["updated"], now_s
        if now_s - sign_s > patience_s:
            show(f"no answer for {duration(patience_s)}: the machine may be gone; if it lives, it will still stop")
            return found
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            show(f"  waiting: {view.progress(found.plain)} · {view.safe(found.plain)}")


def _why_not(found: Overview) -> str:
    if found.rank is None:
        return "no machine has served it yet"
    if found.end:
        return f"session {found.rank.epoch} ended already: {found.end.get('words') or found.end.get('reason')}"
    return f"session {found.rank.epoch} died on this machine without a word"


def _end_of(found: Overview) -> str:
    if found.end:
        words = found.end.get("words")
        return f"session {found.rank.epoch if found.rank else '?'} ended{': ' if words else ''}{words or ''}"
    if found.served:
        return "another machine has taken it over meanwhile; stop it again to stop that one"
    return "the session died before it could answer"


def _next(found: Overview, store: str) -> list[str]:
    name = found.run.name
    if found.state == "SUCCEEDED" and found.plain.get("nan"):
        return [program.of_run("status", name, option=store)]  # it names the last checkpoint before the NaN
    if found.state == "SUCCEEDED":
        return [program.of_run("checkpoints", name, "export", "latest", "DIR", option=store)]
    return [program.of_run("status" if found.served else "resume", name, option=store)]


def _parser() -> Parser:
    made = parser("stop", "Save, wait until it is safe, end; from any machine that sees the store.")
    add_run(made, "the only live run")
    made.add_argument("--now", action="store_true", help="end at once and lose what is not saved")
    return made
