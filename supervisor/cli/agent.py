"""agent FOLDER: what `launch` runs on each machine: it starts the supervisor there and hands its results to home."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli.options import Parser, parser
from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Serve the machine's folder until its job is done and home holds the results; return the supervisor's exit code."""
    options = _parser().parse_args(arguments)
    folder = Path(options.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    from supervisor.fleet import agent, reporting

    try:
        ensure()
    except UserError as error:
        reporting.failed(folder, error)
        raise
    from supervisor import wiring
    from supervisor.engine.clock import BootClock

    environ = {**os.environ, "SUPERVISOR_RUN_LOCAL": str(folder / "local")}
    store = wiring.open_store(f"{wiring.RELAY}{folder / 'store'}")
    return agent.serve(agent.Machine(folder, store, wiring.local_root(environ), BootClock(), environ))


def _parser() -> Parser:
    made = parser("agent", "Serve a machine's folder, as `launch` has filled it; not for people.")
    made.add_argument("folder", metavar="FOLDER")
    return made
