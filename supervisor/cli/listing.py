"""list: all runs in the store, one line each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor.cli.finding import how_to_start, none_yet, opened, option
from supervisor.cli.options import Parser, parser
from supervisor.core.spoken import duration
from supervisor.views.table import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.engine.overview import Overview

HEADS = ("run", "state", "step", "safe step", "sessions", "last sign")


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    options = _parser().parse_args(arguments)
    with opened(options) as store:
        from supervisor.engine import overview, runs
        from supervisor.engine.clock import BootClock
        from supervisor.engine.place import RunPlace

        places = [RunPlace(name) for name in runs.names(store)]
        now = BootClock().now()
        found = [overview.look(store, place, record, now) for place in places if (record := runs.read(store, place))]
    if options.json:
        print(json.dumps([_plain(each) for each in found], ensure_ascii=False))
    elif not found:
        print(f"{none_yet(options)}\n  {how_to_start(options)}")
    else:
        print("\n".join(rows(HEADS, map(_row, found))))
        print(f"  next: python -m supervisor status {found[0].run.name}{option(options)}")
    return 0


def _plain(seen: Overview) -> dict[str, object]:
    return {**seen.plain, "sessions": seen.sessions}


def _row(seen: Overview) -> tuple[str, ...]:
    step, total = seen.plain["step"], seen.plain["total_steps"]
    kept = seen.plain["checkpoints"]["durable"]
    return (
        seen.run.name,
        seen.state,
        "" if step is None else f"{step:,}" + (f"/{total:,}" if total else ""),
        "" if kept is None else f"{kept:,}",
        str(seen.sessions),
        "" if seen.silent_s is None else f"{duration(seen.silent_s)} ago",
    )


def _parser() -> Parser:
    made = parser("list", "All runs in the store.")
    made.add_argument("--json", action="store_true", help="as a JSON array of what status --json shows")
    return made
