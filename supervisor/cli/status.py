"""status [RUN]: how a run is doing, from any machine that sees its store, also while no machine lives."""

from __future__ import annotations

import json
import os
import sys
from threading import Event
from typing import TYPE_CHECKING

from supervisor.cli.finding import NoSuchRunError, StoreAwayError, living_here, one_run, opened, option, told, where
from supervisor.cli.options import Parser, add_run, parser
from supervisor.cli.which import SeveralLiveError
from supervisor.core import program
from supervisor.core.spoken import duration
from supervisor.views import status as view
from supervisor.views import watching
from supervisor.views.wrapping import painted_state, show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.instant import Instant
    from supervisor.engine.overview import Overview

EARLIER_SHOWN = 3
HERE_EVERY_S = 1.0
STORE_EVERY_S = 5.0
PLAIN_EVERY_S = 10.0


def run(arguments: Sequence[str]) -> int:
    """Show it once, or until the run ends."""
    return told(_parser().parse_args(arguments), _from_store, _from_here)


def _from_store(options: Namespace) -> int:
    with opened(options) as store:
        from supervisor.engine import overview
        from supervisor.engine.clock import BootClock
        from supervisor.fleet import lately

        try:
            place, record = one_run(store, options, options.run, "status")
        except SeveralLiveError as several:
            if options.json or options.watch:
                raise
            show("\n\n".join("\n".join(_lines(each, options, ())) for each in several.found))
            return 0

        clock = BootClock()

        def seen() -> Overview:
            return _with_launch(overview.look(store, place, record, clock.now()), options, clock.now())

        def lines(of: Overview) -> list[str]:
            told = list(overview.earlier(store, place, of, EARLIER_SHOWN))
            launch = lately.look(os.environ, place.name, where(options))
            return _lines(of, options, [*([launch.line(clock.now())] if launch else []), *told])

        if options.watch:
            return _watch(seen, lines, as_json=options.json)
        found = seen()
        print(_json(found)) if options.json else show("\n".join(lines(found)))
    return 0


def _with_launch(seen: Overview, options: Namespace, now: Instant) -> Overview:
    """Return it with what the launch of the run on this computer knows; its end counts where the session left none."""
    from dataclasses import replace

    from supervisor.fleet import lately

    launch = lately.look(os.environ, seen.run.name, where(options))
    if launch is None:
        return seen
    plain = {**seen.plain, "launch": launch.plain(now)}
    if launch.end is None or seen.end or seen.alive or seen.rank is None:
        return replace(seen, plain=plain)
    end = {"reason": "launch", "words": launch.end.words, "exit_code": launch.end.exit_code}
    told = {"state": launch.end.state, "exit_code": launch.end.exit_code}
    return replace(seen, plain={**plain, **told}, end=end)


def _from_here(options: Namespace, error: StoreAwayError | NoSuchRunError) -> int:
    """Show what the session on this machine says of itself. Without one, the error is all there is to say."""
    from supervisor.engine import overview

    here = living_here(options, options.run, error)
    show(f"{error.what}; this is what its session on this machine says", sys.stderr)

    def seen() -> Overview:
        if not here.lives:
            raise error
        return overview.of_here(here.again(), error.what)

    def lines(of: Overview) -> list[str]:
        return _lines(of, options, ())

    if options.watch:
        return _watch(seen, lines, as_json=options.json)
    print(_json(seen())) if options.json else show("\n".join(lines(seen())))
    return 0


def _lines(of: Overview, options: Namespace, told: Sequence[str]) -> list[str]:
    store = option(options)
    live = view.Live(of.served, next_commands(of, store), store, lambda words: painted_state(words, sys.stdout))
    return view.block(of.plain, headline(of), told, live)


def headline(seen: Overview) -> str:
    """Say which machine is at it, as honestly as can be told from here."""
    if seen.rank is None:
        return "no machine has served it yet"
    who = f"session {seen.rank.epoch}"
    platform = f" ({seen.plain['platform']})" if seen.plain["platform"] else ""
    if seen.end:
        words = seen.end.get("words") or seen.end.get("reason")
        return f"{who}{platform} ended: {words}"
    if seen.alive:
        return f"{who} on this machine{platform}, attempt {seen.plain['attempt'] or 1}"
    if seen.alive is False:
        return f"{who} died on this machine without a word; starting again goes on from what is safe"
    if seen.silent_s is None:
        return f"{who}{platform} on another machine; it has not spoken yet"
    gone = "; it may be gone" if seen.silent_s > seen.quiet_s else ""
    return f"{who}{platform} on another machine; last sign {duration(seen.silent_s)} ago{gone}"


def next_commands(seen: Overview, store: str) -> list[str]:
    """Return what is useful now."""
    kept = seen.plain["checkpoints"]

    def of_run(*words: str) -> str:
        verb, *more = words
        return program.of_run(verb, seen.run.name, *more, option=store)

    if seen.state == "SUCCEEDED" and kept["durable"] is None and kept["submitted"] is None:
        return [of_run("logs")]
    if seen.state == "SUCCEEDED" and (bad := seen.plain.get("nan")):
        good = bad["last_good"]  # the newest holds the NaN, so that it is not the one to export
        fine = of_run("checkpoints", "list") if good is None else of_run("checkpoints", "export", str(good), "DIR")
        return [fine, of_run("logs", "--steps")]
    if seen.state == "SUCCEEDED":
        return [of_run("checkpoints", "export", "latest", "DIR"), of_run("logs", "--steps")]
    if seen.served:
        return [of_run("logs", "-f"), of_run("stop")]
    return [of_run("resume"), of_run("logs")]


def _watch(seen: Callable[[], Overview], lines: Callable[[Overview], list[str]], *, as_json: bool) -> int:
    """Show it anew while it changes: at once on a terminal, elsewhere every 10 s and whenever the state changes."""
    from supervisor.engine.clock import BootClock

    pause, clock = Event(), BootClock()
    plain = as_json or not sys.stdout.isatty()
    state, shown_s = "", 0.0
    with watching.Printed(sys.stdout) if plain else watching.Redrawn(sys.stdout) as shown:
        while True:
            found, now_s = seen(), clock.now().mono_s
            if not plain or found.state != state or now_s - shown_s >= PLAIN_EVERY_S:
                state, shown_s = found.state, now_s
                shown.show(_json(found) if as_json else "\n".join(lines(found)))
            if found.over:
                return 0
            pause.wait(HERE_EVERY_S if found.alive else STORE_EVERY_S)


def _json(seen: Overview) -> str:
    return json.dumps(dict(seen.plain))


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
