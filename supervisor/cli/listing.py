"""list: all runs in the store, one line each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from supervisor.cli.finding import how_to_start, none_yet, opened, option
from supervisor.cli.options import Parser, parser
from supervisor.cli.which import seen_or_why
from supervisor.core import program
from supervisor.core.spoken import duration
from supervisor.core.status import RunStatus, to_json
from supervisor.views.status import next_commands
from supervisor.views.table import rows
from supervisor.views.words import state
from supervisor.views.wrapping import painted_state, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.engine.overview import Overview

HEADS = ("run", "state", "step", "safe step", "sessions", "last sign")
STATE = HEADS.index("state")
UNREADABLE = "UNREADABLE"  # the state, as JSON has it


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    options = _parser().parse_args(arguments)
    with opened(options) as store:
        from supervisor.engine import runs
        from supervisor.engine.clock import BootClock

        now = BootClock().now()
        looked = {name: seen_or_why(store, name, now) for name in runs.names(store)}
    found = [each for each in looked.values() if each is not None and not isinstance(each, str)]
    listed = {name: each for name, each in looked.items() if each is not None}
    if options.json:
        print(json.dumps([_plain(name, each) for name, each in listed.items()]))
    elif not listed:
        show(f"{none_yet(options)}\n  {how_to_start(options)}")
    else:
        cells = (_row(name, each) for name, each in listed.items())
        show("\n".join(rows(HEADS, cells, {STATE: lambda words: painted_state(words, sys.stdout)})))
    if found and not options.json:
        show("\n".join(next_commands([program.of_run("status", found[0].run.name, option=option(options))])))
    return 0


def _plain(name: str, seen: Overview | str) -> dict[str, object]:
    if isinstance(seen, str):
        return {**to_json(RunStatus(run=name), None), "state": UNREADABLE, "sessions": 0, "error": seen}
    return {**seen.plain, "sessions": seen.sessions}


def _row(name: str, seen: Overview | str) -> tuple[str, ...]:
    if isinstance(seen, str):
        return (name, "CANNOT BE READ", "", "", "", "")
    step, total = seen.plain["step"], seen.plain["total_steps"]
    kept = seen.plain["checkpoints"]["durable"]
    return (
        seen.run.name,
        state(seen.plain),
        "" if step is None else f"{step:,}" + (f"/{total:,}" if total else ""),
        "" if kept is None else f"{kept:,}",
        str(seen.sessions),
        "" if seen.silent_s is None else f"{duration(seen.silent_s)} ago",
    )


def _parser() -> Parser:
    made = parser("list", "All runs in the store.")
    made.add_argument("--json", action="store_true", help="as a JSON array of what status --json shows")
    return made
