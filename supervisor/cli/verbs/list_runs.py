"""list: all runs in the store, one line each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from supervisor.cli.default_run import overview_or_error
from supervisor.cli.options import Parser, parser
from supervisor.cli.run_lookup import no_runs_message, opened, option, start_hint
from supervisor.core import shell_commands
from supervisor.core.humanize import duration
from supervisor.core.session.status import RunStatus, to_json
from supervisor.views.formatting import state
from supervisor.views.status import next_commands
from supervisor.views.table import rows
from supervisor.views.wrapping import painted_state, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.engine.run_catalog.run_status import RunOverview

HEADS = ("run", "state", "step", "safe step", "sessions", "last sign")
STATE = HEADS.index("state")
UNREADABLE = "UNREADABLE"  # the state in the JSON output


def run(arguments: Sequence[str]) -> int:
    """Print the table."""
    options = _parser().parse_args(arguments)
    with opened(options) as store:
        from supervisor.engine.clock import BootClock
        from supervisor.engine.run_catalog import runs

        now = BootClock().now()
        overviews = {name: overview_or_error(store, name, now) for name in runs.names(store)}
    found = [each for each in overviews.values() if each is not None and not isinstance(each, str)]
    listed = {name: each for name, each in overviews.items() if each is not None}
    if options.json:
        print(json.dumps([_plain(name, each) for name, each in listed.items()]))
    elif not listed:
        show(f"{no_runs_message(options)}\n  {start_hint(options)}")
    else:
        cells = (_row(name, each) for name, each in listed.items())
        show("\n".join(rows(HEADS, cells, {STATE: lambda words: painted_state(words, sys.stdout)})))
    if found and not options.json:
        show("\n".join(next_commands([shell_commands.of_run("status", found[0].run.name, option=option(options))])))
    return 0


def _plain(name: str, overview: RunOverview | str) -> dict[str, object]:
    if isinstance(overview, str):
        return {**to_json(RunStatus(run=name), None), "state": UNREADABLE, "sessions": 0, "error": overview}
    return {**overview.plain, "sessions": overview.sessions}


def _row(name: str, overview: RunOverview | str) -> tuple[str, ...]:
    if isinstance(overview, str):
        return (name, "CANNOT BE READ", "", "", "", "")
    step, total = overview.plain["step"], overview.plain["total_steps"]
    durable = overview.plain["checkpoints"]["durable"]
    return (
        overview.run.name,
        state(overview.plain),
        "" if step is None else f"{step:,}" + (f"/{total:,}" if total else ""),
        "" if durable is None else f"{durable:,}",
        str(overview.sessions),
        "" if overview.silent_s is None else f"{duration(overview.silent_s)} ago",
    )


def _parser() -> Parser:
    made = parser("list", "All runs in the store.")
    made.add_argument("--json", action="store_true", help="as a JSON array of what status --json shows")
    return made
