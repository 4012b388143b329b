"""stop [RUN]: save, wait until it is safe, end.

The request goes through the store, so any machine that sees it can send it.
"""

from __future__ import annotations

import signal
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli.options import Parser, add_run, parser
from supervisor.cli.run_lookup import NoSuchRunError, StoreAwayError, answer, local_session, opened, option, select_run
from supervisor.core import shell_commands
from supervisor.core.errors import FAILED
from supervisor.core.escape import shown
from supervisor.core.humanize import duration
from supervisor.views import status as view
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.ports import Clock
    from supervisor.engine.run_catalog.run_status import RunOverview

POLL_EVERY_S = 0.5
REPORT_EVERY_S = 10.0
TIMEOUT_S = 150.0
SECOND_SIGNAL_AFTER_S = 1.0
CANCELLING = "CANCELLING"


def run(arguments: Sequence[str]) -> int:
    """Ask the live session to end, and wait for its answer."""
    return answer(_parser().parse_args(arguments), _through_store, _through_signal)


def _through_store(options: Namespace) -> int:
    with opened(options) as store:
        from supervisor.engine.clock import BootClock
        from supervisor.engine.run_catalog import claims, run_status

        clock = BootClock()
        place, record = select_run(store, options, options.run, "stop")

        def overview() -> RunOverview:
            return run_status.look(store, place, record, clock.now())

        found = overview()
        if found.rank is None or not found.is_active:
            show(f"{place.name}: nothing to stop: {shown(_why_not(found))}")
        else:
            claims.request_stop(store, place, found.rank, "now" if options.now else "save")
            show(f"{place.name}: asked session {found.rank.generation} to {_request_text(options)}")
            found = _wait_until(overview, found, clock, timeout_s=store.traits.silence_s)
    return _report(found, options)


def _through_signal(options: Namespace, error: StoreAwayError | NoSuchRunError) -> int:
    """Signal the local session, because its store cannot pass the request on. Raises ``error`` if there is none."""
    from supervisor.engine.clock import BootClock
    from supervisor.engine.run_catalog import run_status

    local = local_session(options, options.run, error)
    show(f"{error.what}; telling its session on this machine directly", sys.stderr)
    stopping = local.plain.get("state") == CANCELLING
    if not stopping or options.now:
        local.signal(signal.SIGTERM)
        show(f"{local.run}: signalled session {local.rank.generation} to {_request_text(options)}")
    if options.now and not stopping:
        Event().wait(SECOND_SIGNAL_AFTER_S)  # because two signals at once arrive as one
        local.signal(signal.SIGTERM)

    def overview() -> RunOverview:
        nonlocal local
        local = local.refreshed()
        return run_status.from_local_session(local, error.what)

    return _report(_wait_until(overview, overview(), BootClock(), timeout_s=TIMEOUT_S), options)


def _report(found: RunOverview, options: Namespace) -> int:
    """Print the safe step and the next commands; return exit code 0 if the session ended."""
    store = option(options)
    live_at = view.Live(found.is_active, _next(found, store), store)
    show("\n".join([*view.safe_lines(found.plain, live_at), *view.next_commands(live_at.commands)]))
    return 0 if not found.is_active else FAILED


def _request_text(options: Namespace) -> str:
    return "end at once" if options.now else "save and end"


def _wait_until(
    overview: Callable[[], RunOverview], first: RunOverview, clock: Clock, *, timeout_s: float
) -> RunOverview:
    """Return the overview when the session has ended, or has given no sign of life for ``timeout_s``."""
    pause, found = Event(), first
    reported_s = updated_s = clock.now().mono_s
    updated = first.plain["updated"]
    while True:
        pause.wait(POLL_EVERY_S)
        found, now_s = overview(), clock.now().mono_s
        if found.rank != first.rank or not found.is_active:
            show(f"{found.run.name}: {shown(_end_of(found))}")
            return found
        if found.plain["updated"] != updated:
            updated, updated_s = found.plain["updated"], now_s
        if now_s - updated_s > timeout_s:
            show(f"no answer for {duration(timeout_s)}: the machine may be lost; if it still runs, it will stop")
            return found
        if now_s - reported_s >= REPORT_EVERY_S:
            reported_s = now_s
            show(f"  waiting: {view.progress(found.plain)} · {view.safe(found.plain)}")


def _why_not(found: RunOverview) -> str:
    if found.rank is None:
        return "no machine has served it yet"
    if found.end:
        return f"session {found.rank.generation} ended already: {found.end.get('words') or found.end.get('reason')}"
    return f"session {found.rank.generation} died on this machine without a shutdown record"


def _end_of(found: RunOverview) -> str:
    if found.end:
        words = found.end.get("words")
        return f"session {found.rank.generation if found.rank else '?'} ended{': ' if words else ''}{words or ''}"
    if found.is_active:
        return "another machine has taken it over meanwhile; stop it again to stop that one"
    return "the session died before it could answer"


def _next(found: RunOverview, store: str) -> list[str]:
    name = found.run.name
    if found.state == "SUCCEEDED" and found.plain.get("nan"):
        return [shell_commands.of_run("status", name, option=store)]  # it names the last checkpoint before the NaN
    if found.state == "SUCCEEDED":
        return [shell_commands.of_run("checkpoints", name, "export", "latest", "DIR", option=store)]
    return [shell_commands.of_run("status" if found.is_active else "resume", name, option=store)]


def _parser() -> Parser:
    made = parser("stop", "Save, wait until it is safe, end; from any machine that sees the store.")
    add_run(made, "the only live run")
    made.add_argument("--now", action="store_true", help="end at once and lose what is not saved")
    return made
