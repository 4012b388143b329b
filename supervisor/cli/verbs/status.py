"""status [RUN]: state of a run, from any machine that sees its store, also while no machine runs."""

from __future__ import annotations

import json
import os
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli.default_run import SeveralLiveError
from supervisor.cli.options import Parser, add_run, parser
from supervisor.cli.run_lookup import (
    NoSuchRunError,
    StoreAwayError,
    answer,
    local_session,
    opened,
    option,
    select_run,
    where,
)
from supervisor.core import shell_commands
from supervisor.core.humanize import duration
from supervisor.views import live_text
from supervisor.views import status as view
from supervisor.views.wrapping import painted_state, show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.clock import Instant
    from supervisor.engine.run_catalog.run_status import RunOverview

EARLIER_SHOWN = 3
LOCAL_EVERY_S = 1.0
STORE_EVERY_S = 5.0
PLAIN_EVERY_S = 10.0


def run(arguments: Sequence[str]) -> int:
    """Show the status once, or until the run ends."""
    return answer(_parser().parse_args(arguments), _from_store, _from_local_session)


def _from_store(options: Namespace) -> int:
    with opened(options) as store:
        from supervisor.engine.clock import BootClock
        from supervisor.engine.run_catalog import run_status
        from supervisor.fleet import last_launch

        try:
            place, record = select_run(store, options, options.run, "status")
        except SeveralLiveError as several:
            if options.json or options.watch:
                raise
            show("\n\n".join("\n".join(_lines(each, options, ())) for each in several.found))
            return 0

        clock = BootClock()

        def overview() -> RunOverview:
            return _with_launch(run_status.look(store, place, record, clock.now()), options, clock.now())

        def lines(of: RunOverview) -> list[str]:
            extra = list(run_status.earlier(store, place, of, EARLIER_SHOWN))
            launch = last_launch.read_last(os.environ, place.name, where(options))
            return _lines(of, options, [*([launch.line(clock.now())] if launch else []), *extra])

        if options.watch:
            return _watch(overview, lines, as_json=options.json)
        found = overview()
        print(_json(found)) if options.json else show("\n".join(lines(found)))
    return 0


def _with_launch(overview: RunOverview, options: Namespace, now: Instant) -> RunOverview:
    """Return the overview with the launch of the run on this computer.

    The launch's end counts if the session recorded none.
    """
    from dataclasses import replace

    from supervisor.fleet import last_launch

    launch = last_launch.read_last(os.environ, overview.run.name, where(options))
    if launch is None:
        return overview
    plain = {**overview.plain, "launch": launch.plain(now)}
    if launch.end is None or overview.end or overview.alive or overview.rank is None:
        return replace(overview, plain=plain)
    end = {"reason": "launch", "words": launch.end.message, "exit_code": launch.end.exit_code}
    extra = {"state": launch.end.state, "exit_code": launch.end.exit_code}
    return replace(overview, plain={**plain, **extra}, end=end)


def _from_local_session(options: Namespace, error: StoreAwayError | NoSuchRunError) -> int:
    """Show the local session's own status. Without one, raise the error."""
    from supervisor.engine.run_catalog import run_status

    local = local_session(options, options.run, error)
    show(f"{error.what}; this is what its session on this machine says", sys.stderr)

    def overview() -> RunOverview:
        if not local.alive:
            raise error
        return run_status.from_local_session(local.refreshed(), error.what)

    def lines(of: RunOverview) -> list[str]:
        return _lines(of, options, ())

    if options.watch:
        return _watch(overview, lines, as_json=options.json)
    print(_json(overview())) if options.json else show("\n".join(lines(overview())))
    return 0


def _lines(of: RunOverview, options: Namespace, extra: Sequence[str]) -> list[str]:
    store = option(options)
    live = view.Live(of.is_active, next_commands(of, store), store, lambda words: painted_state(words, sys.stdout))
    return view.block(of.plain, headline(of), extra, live)


def headline(overview: RunOverview) -> str:
    """Return the line on the session's machine, only as certain as this machine can know."""
    if overview.rank is None:
        return "no machine has served it yet"
    who = f"session {overview.rank.generation}"
    platform = f" ({overview.plain['platform']})" if overview.plain["platform"] else ""
    if overview.end:
        words = overview.end.get("words") or overview.end.get("reason")
        return f"{who}{platform} ended: {words}"
    if overview.alive:
        return f"{who} on this machine{platform}, attempt {overview.plain['attempt'] or 1}"
    if overview.alive is False:
        return f"{who} died on this machine without a shutdown record; a new start resumes from the safe step"
    if overview.silent_s is None:
        return f"{who}{platform} on another machine; it has not spoken yet"
    gone = "; it may be gone" if overview.silent_s > overview.quiet_s else ""
    return f"{who}{platform} on another machine; last sign {duration(overview.silent_s)} ago{gone}"


def next_commands(overview: RunOverview, store: str) -> list[str]:
    """Return the useful next commands."""
    checkpoints = overview.plain["checkpoints"]

    def of_run(*words: str) -> str:
        verb, *more = words
        return shell_commands.of_run(verb, overview.run.name, *more, option=store)

    if overview.state == "SUCCEEDED" and checkpoints["durable"] is None and checkpoints["submitted"] is None:
        return [of_run("logs")]
    if overview.state == "SUCCEEDED" and (bad := overview.plain.get("nan")):
        good = bad["last_good"]  # the newest checkpoint holds the NaN, so it is not the one to export
        fine = of_run("checkpoints", "list") if good is None else of_run("checkpoints", "export", str(good), "DIR")
        return [fine, of_run("logs", "--steps")]
    if overview.state == "SUCCEEDED":
        return [of_run("checkpoints", "export", "latest", "DIR"), of_run("logs", "--steps")]
    if overview.is_active:
        return [of_run("logs", "-f"), of_run("stop")]
    return [of_run("resume"), of_run("logs")]


def _watch(overview: Callable[[], RunOverview], lines: Callable[[RunOverview], list[str]], *, as_json: bool) -> int:
    """Show the status again when it changes: at once on a terminal, elsewhere every 10 s and at each change of state."""
    from supervisor.engine.clock import BootClock

    pause, clock = Event(), BootClock()
    plain = as_json or not sys.stdout.isatty()
    state, shown_s = "", 0.0
    with live_text.PrintedText(sys.stdout) if plain else live_text.Redrawn(sys.stdout) as shown:
        while True:
            found, now_s = overview(), clock.now().mono_s
            if not plain or found.state != state or now_s - shown_s >= PLAIN_EVERY_S:
                state, shown_s = found.state, now_s
                shown.show(_json(found) if as_json else "\n".join(lines(found)))
            if found.over:
                return 0
            pause.wait(LOCAL_EVERY_S if found.alive else STORE_EVERY_S)


def _json(overview: RunOverview) -> str:
    return json.dumps(dict(overview.plain))


def _parser() -> Parser:
    made = parser("status", "How a run is doing, from any machine that sees its store.")
    made.epilog = (
        "A session is one stay of the run on one machine, an attempt one process of the script in it. Safe is what the store "
        "has confirmed. Goodput is the share of the time that became training that counts. More words: docs/glossary.md."
    )
    add_run(made)
    made.add_argument("--json", action="store_true", help="as one JSON object (schema 1)")
    made.add_argument("--watch", action="store_true", help="again and again, until the run ends")
    return made
