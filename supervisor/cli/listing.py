"""list: all runs in the store, one line each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from supervisor.cli.finding import AWAY, how_to_start, none_yet, opened, option, tell_damage
from supervisor.cli.options import Parser, parser
from supervisor.core import program
from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.core.spoken import duration
from supervisor.views.status import next_commands
from supervisor.views.table import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.overview import Overview

HEADS = ("run", "state", "step", "safe step", "sessions", "last sign")


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    options = _parser().parse_args(arguments)
    with opened(options) as store:
        from supervisor.engine import runs
        from supervisor.engine.clock import BootClock

        now = BootClock().now()
        looked = [_looked(store, name, now) for name in runs.names(store)]
    found = [each for each in looked if each is not None]
    if options.json:
        print(json.dumps([_plain(each) for each in found], ensure_ascii=False))
    elif not looked:
        print(f"{none_yet(options)}\n  {how_to_start(options)}")
    elif found:
        print("\n".join(rows(HEADS, map(_row, found))))
        print("\n".join(next_commands([program.of_run("status", found[0].run.name, option=option(options))])))
    return 0


def _looked(store: Store, name: str, now: Instant) -> Overview | None:
    """Return what is seen of a run. One that cannot be read is said on stderr, and hides no other run."""
    from supervisor.engine import overview, runs
    from supervisor.engine.place import RunPlace

    place = RunPlace(name)
    try:
        record = runs.read(store, place)
        if record is not None:
            tell_damage(record)
            return overview.look(store, place, record, now)
    except UserError as error:
        sys.stderr.write(f"{name}: {error.what}; {error.hint}\n")
    except StoreError as error:
        if error.kind in AWAY:
            raise
        sys.stderr.write(f"{name}: cannot be read: {error}\n")
    return None


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
